//! The mail of a step: to whom, in which language, from which facts.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Journeys;
use crate::domain::address::{EmailAddress, Mailbox};
use crate::domain::contact::Culture;
use crate::domain::journey::walk::Send;
use crate::domain::lane::Lane;
use crate::domain::submission::Submission;
use crate::domain::suppression::link::{list_headers, unsubscribe_url};
use crate::domain::tenant::Tenant;
use crate::store::DueEnrollment;
use crate::templates::RenderError;

/// The identifiers of a pass that may hold its owner's address and language.
const EMAIL: &str = "email";
const CULTURE: &str = "culture";

/// Where a customer is reached.
pub(super) struct Address(Mailbox);

/// Why a step's mail could not be made. Never holds what it was made from.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unmade {
    /// The template failed.
    #[error("{0}")]
    Template(RenderError),
}

/// Where a customer is reached: as the brand or its CRM says, else as the pass does.
pub(super) fn address(due: &DueEnrollment) -> Option<Address> {
    let contact = due.contact.as_ref();
    let said = contact.map(|contact| (contact.email.clone(), contact.name.clone()));
    let of_pass = || due.identifiers.get(EMAIL)?.parse::<EmailAddress>().ok().map(|email| (email, None));
    let (address, name) = said.or_else(of_pass)?;
    Some(Address(Mailbox { name, address }))
}

impl Journeys {
    /// The mail of a step, as it is handed in.
    pub(super) async fn render(
        &self,
        tenant: &Tenant,
        due: &DueEnrollment,
        send: &Send,
        address: &Address,
    ) -> Result<Submission, Unmade> {
        let of_contact = due.contact.as_ref().and_then(|contact| contact.culture.as_ref()).map(Culture::as_str);
        let of_pass = due.identifiers.get(CULTURE).map(String::as_str);
        let wanted = of_contact.or(of_pass);
        let cultures: Vec<&str> = wanted.into_iter().chain([tenant.default_culture.as_str()]).collect();
        let templates = self.parts.templates.borrow().clone();
        let journey = &due.enrollment.journey;
        let token = self.parts.store.unsubscribe_token(&tenant.id, Some(journey), &address.0.address);
        let url = unsubscribe_url(&self.parts.public_url, &token);
        let data = data(tenant, due, address, (cultures[0], &url));
        let rendered =
            templates.render(Some(&tenant.id), &send.template, &cultures, data).await.map_err(Unmade::Template)?;
        let subject = rendered.subject;
        Ok(Submission {
            recipient: address.0.clone(),
            template: Some(send.template.clone()),
            own: None,
            subject,
            html: rendered.html,
            text: rendered.text,
            from: None,
            reply_to: None,
            headers: list_headers(&self.parts.public_url, &token)
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec(),
            attachments: Vec::new(),
            lane: Some(Lane::Journey),
            deadline: None,
            send_at: None,
            dedupe: None,
            unless: None,
            tags: Vec::new(),
            metadata: BTreeMap::new(),
            data: BTreeMap::new(),
        })
    }
}

/// What a template is told.
fn data(tenant: &Tenant, due: &DueEnrollment, address: &Address, (culture, unsubscribe_url): (&str, &str)) -> Value {
    let enrollment = &due.enrollment;
    let occasion = &enrollment.occasion;
    let mut data = Map::new();
    let mut tell = |name: &str, value: Value| {
        if !value.is_null() {
            data.insert(name.to_owned(), value);
        }
    };
    tell("customerId", json!(enrollment.customer.value));
    tell("name", json!(address.0.name));
    tell("email", json!(address.0.address.as_str()));
    tell("culture", json!(culture));
    tell("brand", json!({ "id": tenant.id, "name": tenant.name }));
    let mut pass = Map::new();
    pass.extend(enrollment.pass.as_ref().map(|id| ("id".to_owned(), json!(id))));
    pass.extend(occasion.pass_type.as_ref().map(|pass_type| ("type".to_owned(), json!(pass_type))));
    pass.insert("identifiers".to_owned(), json!(due.identifiers));
    tell("pass", Value::Object(pass));
    tell("contact", due.contact.as_ref().map_or_else(|| json!({}), |contact| json!(contact.fields)));
    tell("device", json!(occasion.device));
    tell("medium", json!(occasion.medium));
    tell("tags", json!(occasion.tags));
    tell("origin", json!(occasion.origin));
    tell("walletStatus", json!(due.wallet_status));
    tell("journey", json!(enrollment.journey));
    tell("unsubscribeUrl", json!(unsubscribe_url));
    Value::Object(data)
}
