//! The courier that speaks SMTP: hands envelopes and contents to sessions of the relay's pool.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use futures_util::future::join_all;

use super::capabilities::Capabilities;
use super::content::Content;
use super::pool::{Leased, RelayPool};
use super::session::{Answer, CLOSING};
use super::settings::{AuthMechanism, RelaySettings, TlsMode};
use super::{Carried, Courier, Envelope, NotOffered, Offered, RefusedCommand, Stage, Trouble, TroubleKind, tls};
use crate::domain::ids::RelayName;
use crate::domain::reply::Reply;

/// A relay cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum CourierError {
    /// A key has a value that cannot work.
    #[error("relay {relay}: {key}: {what}")]
    Settings {
        /// Which relay.
        relay: RelayName,
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Two relays have the same name.
    #[error("relay {0}: the name is used twice")]
    Twice(RelayName),
}

/// What `check --relay` tells of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayFacts {
    /// How the connection is encrypted; `None` when it is not.
    pub tls: Option<TlsFacts>,
    /// How we proved who we are; `None` without credentials.
    pub auth: Option<AuthMechanism>,
    /// What it offers after TLS, before AUTH.
    pub capabilities: Capabilities,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// As in `TLSv1_3`.
    pub version: String,
    /// As in `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
}

/// The way to the relays by SMTP (RFC 5321).
pub struct SmtpCourier {
    relays: RwLock<Pools>,
}

type Pools = BTreeMap<RelayName, Arc<RelayPool>>;

impl SmtpCourier {
    /// A courier to these relays. Reads certificates; connects to nobody.
    pub fn new(relays: Vec<RelaySettings>) -> Result<Self, CourierError> {
        let pools = pools(relays, &Pools::new())?;
        Ok(Self { relays: RwLock::new(pools) })
    }

    /// Opens a session as far as EHLO and AUTH, tells what was found, and QUITs.
    pub async fn inspect(&self, relay: &RelayName) -> Result<RelayFacts, Trouble> {
        let leased = self.fresh(relay).await?;
        let facts = RelayFacts {
            tls: leased.session.wire.line(|line| line.encryption().and_then(tls_facts)),
            auth: leased.session.auth,
            capabilities: leased.session.capabilities.clone(),
        };
        leased.quit().await;
        Ok(facts)
    }

    fn pool(&self, relay: &RelayName) -> Result<Arc<RelayPool>, Trouble> {
        let pool = self.relays.read().unwrap_or_else(PoisonError::into_inner).get(relay).cloned();
        pool.ok_or(Trouble { stage: Stage::Connect, kind: TroubleKind::Closed(ErrorKind::NotFound) })
    }

    fn all(&self) -> Vec<Arc<RelayPool>> {
        self.relays.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A session opened now. Idle ones are closed: they tell nothing of the relay as it is now.
    async fn fresh(&self, relay: &RelayName) -> Result<Leased, Trouble> {
        let pool = self.pool(relay)?;
        let place = pool.place().await?;
        pool.forget_idle();
        pool.open(place).await
    }
}

/// The pools of these relays. One that has a pool already shares its places with the new one.
fn pools(relays: Vec<RelaySettings>, old: &Pools) -> Result<Pools, CourierError> {
    let mut pools = Pools::new();
    for settings in relays {
        let relay = settings.name.clone();
        let wrong = |(key, what)| CourierError::Settings { relay: relay.clone(), key, what };
        if let Some(problem) = settings.problems().into_iter().next() {
            return Err(wrong(problem));
        }
        if settings.username.is_some() && settings.password.is_none() {
            return Err(wrong(("password_file", "was not read".to_owned())));
        }
        let tls = match settings.tls {
            TlsMode::Implicit | TlsMode::Starttls => Some(tls::client(&settings).map_err(wrong)?),
            TlsMode::None => None,
        };
        let pool = RelayPool::new(settings, tls, old.get(&relay).map(Arc::as_ref));
        if pools.insert(relay.clone(), Arc::new(pool)).is_some() {
            return Err(CourierError::Twice(relay));
        }
    }
    Ok(pools)
}

fn tls_facts(connection: &rustls::ClientConnection) -> Option<TlsFacts> {
    Some(TlsFacts {
        version: format!("{:?}", connection.protocol_version()?),
        cipher: format!("{:?}", connection.negotiated_cipher_suite()?.suite()),
    })
}

#[async_trait]
impl Courier for SmtpCourier {
    async fn greet(&self, relay: &RelayName) -> Result<(), Trouble> {
        self.fresh(relay).await?.give_back();
        Ok(())
    }

    async fn offer(&self, relay: &RelayName, envelope: &Envelope) -> Result<Box<dyn Offered>, NotOffered> {
        let pool = self.pool(relay).map_err(NotOffered::Unreachable)?;
        let place = pool.place().await.map_err(NotOffered::Unreachable)?;
        let place = match pool.reuse(place) {
            Err(place) => place,
            Ok(leased) => {
                let mut leased = fit(leased, envelope)?;
                match leased.session.envelope(envelope).await {
                    // Silence is not the end of a session: waiting once more would only double it.
                    Err(trouble) if matches!(trouble.kind, TroubleKind::TimedOut(_)) => {
                        return Err(NotOffered::Lost(trouble));
                    }
                    // The session had come to its end, or out of step, before the relay decided on this mail.
                    Err(_) => leased.into_place(),
                    Ok(Answer::MailRefused(reply)) if reply.code == CLOSING => leased.into_place(),
                    Ok(answer) => return answered(leased, answer),
                }
            }
        };
        let leased = pool.open(place).await.map_err(NotOffered::Unreachable)?;
        let mut leased = fit(leased, envelope)?;
        match leased.session.envelope(envelope).await {
            Err(trouble) => Err(NotOffered::Lost(trouble)),
            Ok(answer) => answered(leased, answer),
        }
    }

    fn take_over(&self, relays: Vec<RelaySettings>) -> Result<(), CourierError> {
        let mut known = self.relays.write().unwrap_or_else(PoisonError::into_inner);
        let new = pools(relays, &known)?;
        for pool in new.values() {
            pool.fit_places();
        }
        let old = std::mem::replace(&mut *known, new);
        for pool in old.values() {
            pool.retire();
        }
        Ok(())
    }

    async fn close(&self) {
        let pools = self.all();
        join_all(pools.iter().map(|pool| pool.close())).await;
    }
}

/// The session, when its relay can take this mail.
fn fit(leased: Leased, envelope: &Envelope) -> Result<Leased, NotOffered> {
    match leased.session.unfit(envelope) {
        None => Ok(leased),
        Some(unfit) => {
            leased.give_back();
            Err(NotOffered::Unfit(unfit))
        }
    }
}

fn answered(leased: Leased, answer: Answer) -> Result<Box<dyn Offered>, NotOffered> {
    match answer {
        Answer::Accepted => Ok(Box::new(OfferedMail(leased))),
        Answer::MailRefused(reply) => Err(refused(leased, RefusedCommand::Mail, reply)),
        Answer::RcptRefused(reply) => Err(refused(leased, RefusedCommand::Rcpt, reply)),
    }
}

fn refused(leased: Leased, command: RefusedCommand, reply: Reply) -> NotOffered {
    leased.give_back();
    NotOffered::Refused { command, reply }
}

/// A mail that the relay would take.
struct OfferedMail(Leased);

#[async_trait]
impl Offered for OfferedMail {
    async fn carry(self: Box<Self>, mime: Vec<u8>, in_time: &(dyn Fn() -> bool + Send + Sync)) -> Carried {
        let mut leased = self.0;
        let content = Content::new(mime);
        let carried = leased.session.carry(&content, in_time).await;
        // Nothing is awaited from here on: the outcome must not be lost to a cancellation.
        leased.give_back();
        carried
    }

    async fn withdraw(self: Box<Self>) {
        let mut leased = self.0;
        leased.session.reset().await;
        leased.give_back();
    }
}

#[cfg(test)]
impl SmtpCourier {
    pub(super) fn only_pool(&self) -> Arc<RelayPool> {
        let [pool] = self.all().try_into().unwrap_or_else(|_| panic!("not one relay"));
        pool
    }
}
