//! Journeys in the gateway: whoever is due takes their next step, and whose address is wanted is asked for.

use std::sync::Arc;

use super::App;
use crate::contacts::Contacts;
use crate::journeys::{Journeys, Parts};
use crate::lifecycle::{Kind, Tasks};

/// The journeys of an app.
#[must_use]
pub fn journeys(app: &App) -> Journeys {
    Journeys::new(Parts {
        store: Arc::clone(&app.store),
        clock: Arc::clone(&app.clock),
        intake: Arc::clone(&app.intake),
        rules: app.rules.subscribe(),
        templates: app.templates.subscribe(),
        limits: Arc::clone(&app.limits),
        settings: app.config.journey.clone(),
        public_url: app.config.server.public_url.clone(),
        wake: Arc::clone(&app.stir),
    })
}

/// Starts both.
pub fn start(app: &App, contacts: Arc<Contacts>, tasks: &Tasks) {
    let (journeys, soft) = (journeys(app), tasks.soft());
    tasks.spawn("journeys", Kind::Essential, async move { journeys.run(soft).await });
    let (stir, soft) = (Arc::clone(&app.stir), tasks.soft());
    tasks.spawn("contacts", Kind::Essential, async move { contacts.seek(&stir, soft).await });
}
