//! Links by which people unsubscribe: kept with the mail that carries them, followed for ever.
//!
//! A link's row holds no address: whose it is stands there as the keyed hash under which their suppressions are found, and
//! as the hash that leaves name them by. The address that a list shows is that of the last mail, while there is one.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, named_params};

use super::judging::{lookup, said};
use super::{Row, delete};
use crate::domain::address::Mailbox;
use crate::domain::audit::Actor;
use crate::domain::audit::suppressions::Which;
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::message::NewMessage;
use crate::domain::suppression::link::UnsubscribeToken;
use crate::domain::suppression::{LinkView, Source, SuppressionScope, Wish};
use crate::store::sqlite::accept::{hmac, millis};
use crate::store::sqlite::audit;
use crate::store::sqlite::fault::{Cells, Fault};
use crate::store::sqlite::writer::Writing;

/// The token of the link of a recipient. Neither a tenant's name nor a scope holds `|`, so no two read the same.
pub(super) fn token(key: &[u8; 32], tenant: &TenantId, scope: &SuppressionScope, normalized: &str) -> UnsubscribeToken {
    let scope = scope.to_string();
    let parts = [tenant.as_str().as_bytes(), b"|", scope.as_bytes(), b"|", normalized.as_bytes()];
    UnsubscribeToken::from_mac(&hmac(key, &parts))
}

/// Keeps the link that a journey's mail carries; `recipient` is the hash by which leaves name its recipient.
pub(in crate::store::sqlite) fn keep(
    connection: &Writing<'_>,
    secret: &[u8; 32],
    message: &NewMessage,
    recipient: &[u8; 32],
) -> Result<(), Fault> {
    let Some(sent_by) = &message.sent_by else { return Ok(()) };
    let (tenant, scope) = (&message.tenant, SuppressionScope::of_link(Some(&sent_by.journey)));
    let normalized = message.recipient.address.normalized();
    let sql = r"-- keep_link
        INSERT INTO unsubscribe_token (token, tenant, scope, lookup, recipient, message, first_at)
        VALUES (:token, :tenant, :scope, :lookup, :recipient, :message, :first_at)
        ON CONFLICT (token) DO UPDATE SET message = excluded.message, recipient = excluded.recipient";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":token": token(&key(connection)?, tenant, &scope, &normalized).as_bytes(),
        ":tenant": tenant.as_str(),
        ":scope": scope.to_string(),
        ":lookup": lookup(secret, tenant, &normalized),
        ":recipient": recipient,
        ":message": message.id.as_bytes(),
        ":first_at": millis(message.accepted_at),
    })?;
    Ok(())
}

/// The key of all tokens.
fn key(connection: &Connection) -> Result<[u8; 32], Fault> {
    let sql = r"-- unsubscribe_key
        SELECT value FROM meta WHERE name = 'unsubscribe-key'";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// A link as kept.
struct Link {
    token: UnsubscribeToken,
    tenant: TenantId,
    scope: SuppressionScope,
    lookup: [u8; 32],
    recipient: [u8; 32],
    message: Option<MessageId>,
}

fn link(connection: &Connection, token: UnsubscribeToken) -> Result<Option<Link>, Fault> {
    let sql = r"-- link
        SELECT tenant, scope, lookup, recipient, message FROM unsubscribe_token WHERE token = :token";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":token": token.as_bytes() })?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let cells = Cells::new(row, "unsubscribe_token");
    Ok(Some(Link {
        token,
        tenant: cells.word("tenant")?,
        scope: cells.word("scope")?,
        lookup: cells.plain("lookup")?,
        recipient: cells.plain("recipient")?,
        message: cells.plain::<Option<Vec<u8>>>("message")?.as_deref().and_then(MessageId::from_slice),
    }))
}

/// The link with this token, and how it stands with what it is for.
pub(super) fn view(connection: &Connection, token: UnsubscribeToken) -> Result<Option<LinkView>, Fault> {
    link(connection, token)?.map(|link| link.view(connection)).transpose()
}

/// Does what somebody wants who followed the link.
pub(super) fn follow(
    connection: &Writing<'_>,
    token: UnsubscribeToken,
    wish: Wish,
    at: Timestamp,
) -> Result<Option<LinkView>, Fault> {
    let Some(link) = link(connection, token)? else { return Ok(None) };
    let scope = match wish {
        Wish::TakeBack => {
            link.take_back(connection, at)?;
            return link.view(connection).map(Some);
        }
        Wish::AsLinked => &link.scope,
        // The link may be for more already.
        Wish::AllJourneys if link.scope.covers(&SuppressionScope::Journeys) => &link.scope,
        Wish::AllJourneys => &SuppressionScope::Journeys,
    };
    link.stop(connection, scope, at)?;
    link.view(connection).map(Some)
}

impl Link {
    fn view(self, connection: &Connection) -> Result<LinkView, Fault> {
        let mut said = said(connection, &self.tenant, &self.lookup)?;
        // Who is not mailed for a while may still want no more mails after it.
        said.retain(|said| said.expires_at.is_none());
        let said_here = said.iter().any(|said| said.token.as_deref() == Some(self.token.as_bytes()));
        let covering = said.into_iter().map(|said| said.scope).filter(|scope| scope.covers(&self.scope));
        // Scopes are in order, the widest last.
        Ok(LinkView { stopped: covering.max(), said_here, tenant: self.tenant, scope: self.scope })
    }

    fn stop(&self, connection: &Writing<'_>, scope: &SuppressionScope, at: Timestamp) -> Result<(), Fault> {
        let address = self.address(connection)?;
        let row = Row {
            tenant: &self.tenant,
            lookup: &self.lookup,
            scope,
            source: Source::Unsubscribed,
            because: None,
            address: address.as_deref(),
            token: Some(self.token),
            actor: &Actor::Recipient,
            expires_at: None,
            at,
        };
        if row.insert(connection)? {
            audit::append(connection, &self.which(scope).unsubscribed(at, self.message))?;
        }
        Ok(())
    }

    /// The address of the last mail that carried it.
    fn address(&self, connection: &Connection) -> Result<Option<String>, Fault> {
        let Some(message) = self.message else { return Ok(None) };
        let sql = r"-- address_of_link
            SELECT mailbox FROM message WHERE id = :id";
        let mut statement = connection.prepare_cached(sql)?;
        let mailbox: Option<String> =
            statement.query_row(named_params! { ":id": message.as_bytes() }, |row| row.get(0)).optional()?;
        Ok(mailbox.and_then(|mailbox| mailbox.parse::<Mailbox>().ok()).map(|to| to.address.as_str().to_owned()))
    }

    fn take_back(&self, connection: &Writing<'_>, at: Timestamp) -> Result<(), Fault> {
        let sql = r"-- suppressions_by_link
            SELECT number, scope FROM suppression WHERE token = :token";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(named_params! { ":token": self.token.as_bytes() })?;
        let mut theirs: Vec<(u64, SuppressionScope)> = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = Cells::new(row, "suppression");
            theirs.push((u64::try_from(cells.plain::<i64>("number")?).unwrap_or_default(), cells.word("scope")?));
        }
        for (number, scope) in theirs {
            delete(connection, number)?;
            audit::append(connection, &self.which(&scope).removed(at, Actor::Recipient, None))?;
        }
        Ok(())
    }

    fn which<'w>(&'w self, scope: &'w SuppressionScope) -> Which<'w> {
        Which { tenant: &self.tenant, recipient: Some(&self.recipient), scope, source: Source::Unsubscribed }
    }
}

/// Forgets which mails carried a person's links.
pub(super) fn forget(connection: &Connection, tenant: &TenantId, lookup: &[u8; 32]) -> Result<(), Fault> {
    let sql = r"-- forget_mails_of_links
        UPDATE unsubscribe_token SET message = NULL WHERE tenant = :tenant AND lookup = :lookup";
    connection.prepare_cached(sql)?.execute(named_params! { ":tenant": tenant.as_str(), ":lookup": lookup })?;
    Ok(())
}
