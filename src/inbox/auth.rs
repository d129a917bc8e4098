//! Checks what a client says in AUTH: PLAIN (RFC 4616), LOGIN, and XOAUTH2 with the password as its token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

/// Who may send through the capture server.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user name.
    pub user: String,
    /// The password; for XOAUTH2 the bearer token.
    pub password: SecretString,
}

/// Whether what a client claimed is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Not base64, or not the fields the mechanism wants.
    Malformed,
}

impl Credentials {
    /// An answer to PLAIN: authorisation identity, user and password, split by NUL.
    pub(super) fn check_plain(&self, answer: &str) -> Verdict {
        let Some(bytes) = decode(answer) else { return Verdict::Malformed };
        let fields: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
        match fields.as_slice() {
            [_, user, password] => self.check(user, password),
            _ => Verdict::Malformed,
        }
    }

    /// The two answers to LOGIN.
    pub(super) fn check_login(&self, user: &str, password: &str) -> Verdict {
        match (decode(user), decode(password)) {
            (Some(user), Some(password)) => self.check(&user, &password),
            _ => Verdict::Malformed,
        }
    }

    /// An answer to XOAUTH2: `user=…^Aauth=Bearer …^A^A`.
    pub(super) fn check_xoauth2(&self, answer: &str) -> Verdict {
        let Some(bytes) = decode(answer) else { return Verdict::Malformed };
        let fields: Vec<&[u8]> = bytes.split(|byte| *byte == 1).collect();
        let [user, bearer, b"", b""] = fields.as_slice() else { return Verdict::Malformed };
        match (user.strip_prefix(b"user="), bearer.strip_prefix(b"auth=Bearer ")) {
            (Some(user), Some(token)) => self.check(user, token),
            _ => Verdict::Malformed,
        }
    }

    fn check(&self, user: &[u8], password: &[u8]) -> Verdict {
        let same_user = user.ct_eq(self.user.as_bytes());
        let same_password = password.ct_eq(self.password.expose_secret().as_bytes());
        if bool::from(same_user & same_password) { Verdict::Right } else { Verdict::Wrong }
    }
}

fn decode(answer: &str) -> Option<Vec<u8>> {
    // RFC 4954 section 4: a single "=" stands for an empty initial response.
    if answer == "=" { Some(Vec::new()) } else { STANDARD.decode(answer).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials { user: "postern".into(), password: "open sesame".into() }
    }

    #[test]
    fn the_right_password_is_told_from_a_wrong_and_a_malformed_one() {
        let plain = |text: &[u8]| credentials().check_plain(&STANDARD.encode(text));
        assert_eq!(plain(b"\0postern\0open sesame"), Verdict::Right);
        assert_eq!(plain(b"\0postern\0open"), Verdict::Wrong);
        assert_eq!(plain(b"\0other\0open sesame"), Verdict::Wrong);
        assert_eq!(plain(b"postern"), Verdict::Malformed);
        assert_eq!(credentials().check_plain("%%%"), Verdict::Malformed);
        let login = credentials().check_login(&STANDARD.encode("postern"), &STANDARD.encode("open sesame"));
        assert_eq!(login, Verdict::Right);
        let bearer = |text: &[u8]| credentials().check_xoauth2(&STANDARD.encode(text));
        assert_eq!(bearer(b"user=postern\x01auth=Bearer open sesame\x01\x01"), Verdict::Right);
        assert_eq!(bearer(b"user=postern\x01auth=Bearer stale\x01\x01"), Verdict::Wrong);
        assert_eq!(bearer(b"user=postern"), Verdict::Malformed);
    }
}
