//! Identifiers: what each thing is called in URLs, rows and logs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not an identifier of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind} identifier")]
pub struct NotAnId {
    kind: &'static str,
}

/// Declares an identifier that is a UUID behind a prefix, e.g. `msg_0199…` (32 lower-case hexadecimal digits).
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID; version 7 keeps identifiers in the order of their making.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The 16 bytes as stored.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// From the 16 bytes as stored; `None` when there are not 16.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The 32 hexadecimal digits without the prefix.
            #[must_use]
            pub fn hex(&self) -> String {
                self.0.simple().to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let wrong = NotAnId { kind: stringify!($name) };
                let digits = text.strip_prefix($prefix).ok_or_else(|| wrong.clone())?;
                if digits.len() != 32 || digits.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(wrong);
                }
                Uuid::parse_str(digits).map(Self).map_err(|_| wrong)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

uuid_id!(
    /// One message: one mail to one recipient, from acceptance to its end.
    MessageId,
    "msg_"
);
uuid_id!(
    /// One API key (not its secret).
    KeyId,
    "key_"
);
uuid_id!(
    /// One time that a stream of mails was out of line.
    BrakeId,
    "brk_"
);
uuid_id!(
    /// One pass event, as it came in.
    EventId,
    "evt_"
);
uuid_id!(
    /// One time that a tenant's passes were worth a look.
    AlarmId,
    "alm_"
);
uuid_id!(
    /// One customer's way through one journey.
    EnrollmentId,
    "enr_"
);
uuid_id!(
    /// One push: an event for one endpoint; the receiver's `webhook-id`.
    PushId,
    "psh_"
);
uuid_id!(
    /// One HTTP request, as shown in `instance` of an error and in the access log.
    RequestId,
    "req_"
);

/// Proof that an attempt is ours: 128 random bits, repeated by every later write of the attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken([u8; 16]);

impl LeaseToken {
    /// A token from 16 random bytes.
    #[must_use]
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseToken(…)")
    }
}

/// A name from the configuration: 1 to 64 characters of `a-z 0-9 _ -`, beginning with a letter or digit.
macro_rules! slug {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
                let first = text.bytes().next();
                if text.len() > 64
                    || !text.bytes().all(allowed)
                    || !first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                {
                    return Err("a name is 1 to 64 characters of a-z 0-9 _ -, beginning with a letter or digit".into());
                }
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

slug!(
    /// A tenant: one brand, named by its file in `config/tenants`.
    TenantId
);
slug!(
    /// A relay, named in `[[relays]]`.
    RelayName
);
slug!(
    /// A journey, named by its file in `config/journeys`.
    JourneyName
);
slug!(
    /// A receiver of pushes, named in a tenant's `[[outbound]]`.
    EndpointName
);

impl MessageId {
    /// The message with this Message-ID header, as the gateway makes them: `<` its digits `@` a domain `>`.
    #[must_use]
    pub fn of_header(header: &str) -> Option<Self> {
        let (digits, _) = header.strip_prefix('<')?.split_once('@')?;
        let is_plain = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_plain.then(|| Uuid::try_parse(digits).ok().map(Self::from_uuid)).flatten()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn an_identifier_reads_back_as_written() {
        let id = MessageId::from_uuid(Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001));
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        for wrong in ["", "msg_", "key_01990000000070008000000000000001", "msg_0199000000007000800000000000000G"] {
            assert!(wrong.parse::<MessageId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tenant_name_cannot_leave_its_folder() {
        for wrong in ["", "..", "a/b", "Ä", "-a", "A", &"a".repeat(65)] {
            assert!(wrong.parse::<TenantId>().is_err(), "{wrong}");
        }
        assert_eq!("demo-1".parse::<TenantId>().unwrap().as_str(), "demo-1");
    }
}
