//! Mails that templates of our own write: in which culture, with what data, and what is said when that cannot be done.
//!
//! A template is rendered before anything is kept and outside of any transaction, once: a repeat is answered before it.

use serde_json::{Map, Value, json};

use super::{Intake, Refusal};
use crate::domain::contact::Contact;
use crate::domain::submission::{FieldError, OwnTemplate, Submission};
use crate::domain::tenant::Tenant;
use crate::store::ContactFilter;
use crate::templates::{RenderError, Rendered};

impl Intake {
    /// The submission with what its template writes, when it names one of our own; else as it is.
    pub(super) async fn written(&self, tenant: &Tenant, submission: Submission) -> Result<Submission, Refusal> {
        let Some(own) = &submission.own else { return Ok(submission) };
        // Whoever makes an `OwnTemplate` names the template; without a name there is none of that name.
        let template = submission.template.as_deref().unwrap_or_default();
        let templates = self.templates.borrow().clone();
        if !templates.has(template) {
            return Err(wrong(
                "/emailTemplate",
                "there is no template of this name: postern templates list shows them",
            ));
        }
        let contact = self.contact(tenant, own, &submission).await?;
        let cultures = cultures(tenant, own, contact.as_ref());
        let data = data(tenant, own, &submission, contact.as_ref(), &cultures);
        let cultures: Vec<&str> = cultures.iter().map(String::as_str).collect();
        let written = templates.render(Some(&tenant.id), template, &cultures, data).await;
        let Rendered { subject, html, text, culture: _ } = written.map_err(refusal)?;
        Ok(Submission { subject, html, text, own: None, ..submission })
    }

    /// What is known of the recipient: the customer who was named, or the only one with this address.
    async fn contact(
        &self,
        tenant: &Tenant,
        own: &OwnTemplate,
        submission: &Submission,
    ) -> Result<Option<Contact>, Refusal> {
        if let Some(customer) = &own.customer {
            return self.store.contact(&tenant.id, customer).await.map_err(Refusal::Store);
        }
        let address = Some(submission.recipient.address.normalized());
        // Two with one address are not told apart.
        let filter = ContactFilter { address, after: None, limit: 2 };
        let mut found = self.store.contacts(&tenant.id, filter).await.map_err(Refusal::Store)?;
        Ok(found.pop().filter(|_| found.is_empty()))
    }
}

/// In which cultures the mail is wanted, the best first: what was said of this mail, what is known of its recipient, what
/// the caller has, what the tenant has.
fn cultures(tenant: &Tenant, own: &OwnTemplate, contact: Option<&Contact>) -> Vec<String> {
    let known = contact.and_then(|contact| contact.culture.as_ref());
    let said = own.culture.iter().chain(known).chain(&own.cultures).map(|culture| culture.as_str().to_owned());
    said.chain([tenant.default_culture.clone()]).collect()
}

/// The caller's data, and, where they say nothing of it, what a mail of a journey has as well.
fn data(
    tenant: &Tenant,
    own: &OwnTemplate,
    submission: &Submission,
    contact: Option<&Contact>,
    cultures: &[String],
) -> Value {
    let recipient = &submission.recipient;
    let name = recipient.name.clone().or_else(|| contact.and_then(|contact| contact.name.clone()));
    let customer = own.customer.as_ref().or(contact.map(|contact| &contact.customer));
    let known = [
        ("brand", Some(json!({"id": tenant.id, "name": tenant.name}))),
        ("email", Some(json!(recipient.address.to_string()))),
        ("culture", cultures.first().map(|culture| json!(culture))),
        ("name", name.map(Value::String)),
        ("customerId", customer.map(|customer| json!(customer))),
    ];
    let mut data = own.data.as_object().cloned().unwrap_or_else(Map::new);
    for (key, value) in known {
        if let Some(value) = value
            && !data.contains_key(key)
        {
            data.insert(key.to_owned(), value);
        }
    }
    Value::Object(data)
}

/// What does not go together is the caller's to mend, and said without the data; what we have no time for is not.
fn refusal(error: RenderError) -> Refusal {
    match &error {
        RenderError::Busy { .. } | RenderError::Stuck { .. } => Refusal::Busy(error),
        RenderError::Data { .. } | RenderError::Failed { .. } => wrong("/data", error.to_string()),
        RenderError::Unknown { .. }
        | RenderError::Broken { .. }
        | RenderError::TooSlow { .. }
        | RenderError::Panicked { .. } => wrong("/emailTemplate", error.to_string()),
    }
}

fn wrong(pointer: &str, detail: impl Into<String>) -> Refusal {
    Refusal::Invalid(vec![FieldError::new(pointer, detail)])
}
