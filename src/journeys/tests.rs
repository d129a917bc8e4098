//! Customers on their way, on a clock of their own: real store, real templates, real intake; nothing is delivered.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::settings::JourneySettings;
use super::{Journeys, Parts};
use crate::clock::{Clock as _, ManualClock};
use crate::domain::audit::Actor;
use crate::domain::contact::{NewContact, Origin};
use crate::domain::ids::{EventId, TenantId};
use crate::domain::journey::enrollment::{Ending, Status};
use crate::domain::journey::{Action, Drawn, EntryRule, Journey, Step, Trigger};
use crate::domain::lane::{Lane, LaneRules, PerLane, UnknownPolicy};
use crate::domain::message::{self, MessageView, Reason};
use crate::domain::pass_event::{EventKind, NewPassEvent, PassEvent, RegistrationCounts, Source, Wallet, Way};
use crate::domain::quantity::{HumanDuration, Limit, Share};
use crate::domain::rules::Rules;
use crate::domain::suppression::{NewSuppression, Source as Said, SuppressionScope};
use crate::domain::tenant::Tenant;
use crate::intake::Intake;
use crate::limits::Limits;
use crate::limits::settings::LimitsSettings;
use crate::store::sqlite::{OpenOptions, Role, SqliteStore};
use crate::store::{EnrollmentFilter, MessageFilter, Pushed, RecordRules, Store};
use crate::templates::{TemplateSettings, Templates};

const DAY: Duration = Duration::from_hours(24);

/// A brand with one journey.
struct Home {
    clock: ManualClock,
    store: Arc<dyn Store>,
    journeys: Journeys,
    journey: Journey,
    _folder: tempfile::TempDir,
}

fn tenant() -> TenantId {
    "demo".parse().unwrap()
}

fn step(action: Action) -> Step {
    Step { action, only_if: None, unless: None }
}

fn send(template: &str) -> Step {
    step(Action::Send { template: template.to_owned() })
}

/// A welcome, and tips at nine where the customer is, three days later.
fn welcome() -> Journey {
    Journey {
        name: "welcome".parse().unwrap(),
        tenant: tenant(),
        trigger: Trigger::FirstInstall,
        entry: EntryRule::OncePerCustomer,
        exit_on: [Trigger::Removed].into(),
        quiet_hours: None,
        contact_within: "7d".parse().unwrap(),
        when: crate::domain::journey::rule::When::default(),
        steps: vec![
            send("welcome"),
            step(Action::Wait("3d".parse().unwrap())),
            step(Action::WaitUntil("09:00".parse().unwrap())),
            send("tips"),
        ],
    }
}

/// The least that can be sent, and what cannot.
fn templates(folder: &std::path::Path, wait_max: &str) -> Templates {
    for (name, body) in [
        ("welcome", "<p>Hello {{name}}: {{culture}} {{unsubscribeUrl}}</p>"),
        ("tips", "<p>{{pass.id}}</p>"),
        ("broken", "<p>{{#if broken}}fine{{else}}{{nobody.knows.this}}{{/if}}</p>"),
    ] {
        for culture in ["en", "fr"] {
            let place = folder.join("mail").join(name).join(culture);
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("subject.hbs"), format!("{name} {culture}")).unwrap();
            std::fs::write(place.join("body.html.hbs"), body).unwrap();
        }
        let sample = r#"{"name":"Ann","culture":"en","unsubscribeUrl":"https://demo.example/u/1","pass":{"id":"P"},"broken":true}"#;
        std::fs::write(folder.join("mail").join(name).join("sample.json"), sample).unwrap();
    }
    let dir = folder.to_str().unwrap().to_owned();
    let settings: TemplateSettings =
        serde_json::from_value(serde_json::json!({ "dir": dir, "wait_max": wait_max })).unwrap();
    let (templates, problems) = Templates::load(&settings);
    assert!(problems.is_empty(), "{problems:?}");
    templates
}

impl Home {
    fn new(start: &str, journey: Journey) -> Self {
        Self::of(start, journey, Tenant { timezone: "Europe/Paris".parse().unwrap(), ..Tenant::plain("demo") })
    }

    fn of(start: &str, journey: Journey, brand: Tenant) -> Self {
        Self::waiting(start, journey, brand, "10s")
    }

    /// One in which a mail waits so long to be rendered.
    fn waiting(start: &str, journey: Journey, brand: Tenant, wait_max: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(start.parse().unwrap());
        let path = folder.path().join("store.db");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(OpenOptions { path, role: Role::Gateway }).unwrap());
        let lanes = PerLane::from_fn(|_| LaneRules {
            deliver_within: HumanDuration::from_secs(86_400),
            retry: None,
            reserved: Share::NONE,
            on_unknown: UnknownPolicy::Hold,
        });
        let drawn = Arc::new(Drawn::from(journey.clone()));
        let journeys = BTreeMap::from([(journey.name.clone(), drawn)]);
        let rules =
            Rules { tenants: [(tenant(), brand)].into(), lanes, retry: Vec::new(), journeys, reads_relay_logs: false };
        let (_, rules) = watch::channel(Arc::new(rules));
        let (_, templates) = watch::channel(Arc::new(templates(&folder.path().join("templates"), wait_max)));
        let wake: Arc<Notify> = Arc::default();
        let shared: Arc<dyn crate::clock::Clock> = Arc::new(clock.clone());
        let intake = Intake::new(
            Arc::clone(&store),
            Arc::clone(&shared),
            rules.clone(),
            templates.clone(),
            Arc::clone(&wake),
            None,
        );
        let parts = Parts {
            store: Arc::clone(&store),
            clock: Arc::clone(&shared),
            intake: Arc::new(intake),
            rules,
            templates,
            limits: Arc::new(Limits::new(&LimitsSettings::default(), &shared)),
            settings: JourneySettings::default(),
            public_url: "https://demo.example".to_owned(),
            wake,
        };
        Self { clock, store, journeys: Journeys::new(parts), journey, _folder: folder }
    }

    async fn hears(&self, kind: EventKind, customer: &str) {
        let event = PassEvent {
            kind,
            wallet: Wallet::Apple,
            pass: Some(format!("pass of {customer}")),
            pass_type: None,
            identifiers: [("customerId".to_owned(), customer.to_owned())].into(),
            counts: RegistrationCounts::default(),
            source: Source::default(),
            occurred_at: None,
            since: None,
            key: None,
            way: Way::Hook,
        };
        let (id, received_at) = (EventId::from_uuid(uuid::Uuid::now_v7()), self.clock.now());
        let new = NewPassEvent { id, received_at, event };
        let rules = RecordRules {
            identifiers: vec!["customerId".to_owned()],
            reinstall_settle: Duration::from_mins(10),
            history_max: 100,
            passes_max: 100,
            time_ahead_max: Duration::from_mins(5),
            pushed: Pushed::No,
            journeys: vec![Arc::new(Drawn::from(self.journey.clone()))],
        };
        self.store.record(&tenant(), Actor::Webhook, vec![new], rules).await.unwrap();
    }

    async fn knows(&self, customer: &str, culture: &str, timezone: Option<&str>) {
        let contact = NewContact {
            customer: customer.parse().unwrap(),
            email: format!("{customer}@example.com").parse().unwrap(),
            name: Some("Ann".to_owned()),
            culture: Some(culture.parse().unwrap()),
            timezone: timezone.map(|zone| zone.parse().unwrap()),
            consent: BTreeMap::new(),
            fields: BTreeMap::new(),
            origin: Origin::Api,
            at: self.clock.now(),
        };
        self.store.set_contacts(&tenant(), Actor::Command("contacts"), vec![contact]).await.unwrap();
    }

    /// Rounds until nothing is to be done at this moment.
    async fn settle(&self) {
        while self.journeys.round().await.unwrap().more {}
    }

    /// The same, from one moment at which somebody is due to the next, until `length` has passed.
    async fn pass(&self, length: Duration) {
        let until = self.clock.now().checked_add(length).unwrap();
        loop {
            self.settle().await;
            let next = self.journeys.next_at().await.unwrap().filter(|at| *at <= until).unwrap_or(until);
            if next <= self.clock.now() {
                return;
            }
            self.clock.advance(next.duration_since(self.clock.now()).unsigned_abs());
        }
    }

    /// Subjects of the mails there are, in their order, each with the moment of its acceptance.
    async fn mails(&self) -> Vec<(String, String)> {
        let mut views = self.views().await;
        views.reverse();
        let written = |view: MessageView| (view.subject, format!("{:.0}", view.accepted_at));
        views.into_iter().map(written).collect()
    }

    async fn views(&self) -> Vec<MessageView> {
        self.store.messages(&tenant(), MessageFilter { limit: 100, ..MessageFilter::default() }).await.unwrap().messages
    }

    async fn status(&self, customer: &str) -> Status {
        let filter = EnrollmentFilter {
            journey: self.journey.name.clone(),
            status: None,
            customer: Some(customer.to_owned()),
            before: None,
            limit: 10,
        };
        let found = self.store.enrollments(&tenant(), filter).await.unwrap();
        assert_eq!(found.len(), 1, "{customer}");
        found[0].status
    }
}

fn mail(subject: &str, at: &str) -> (String, String) {
    (subject.to_owned(), at.to_owned())
}

#[tokio::test]
async fn each_is_welcomed_at_once_in_their_language_and_gets_the_tips_at_nine_where_they_are() {
    let home = Home::new("2026-03-26T12:00:00Z", welcome());
    home.knows("ann", "fr-CA", None).await;
    home.knows("bob", "de", Some("Asia/Tokyo")).await;
    home.hears(EventKind::Installed, "ann").await;
    home.hears(EventKind::Installed, "bob").await;
    home.pass(DAY * 2).await;
    let mut welcomes = home.mails().await;
    welcomes.sort();
    assert_eq!(welcomes, [mail("welcome en", "2026-03-26T12:00:00Z"), mail("welcome fr", "2026-03-26T12:00:00Z")]);
    home.pass(DAY * 10).await;
    // Tokyo has seen nine o'clock of the 29th before the three days were over; Paris changed its clocks in that night.
    let tips = home.mails().await.split_off(2);
    assert_eq!(tips, [mail("tips en", "2026-03-30T00:00:00Z"), mail("tips fr", "2026-03-30T07:00:00Z")]);
    assert_eq!(home.status("ann").await, Status::Ended(Ending::Completed));
    let view = home.views().await.remove(0);
    assert_eq!(
        (view.lane, view.journey.as_deref(), view.template.as_deref()),
        (Lane::Journey, Some("welcome"), Some("tips"))
    );
}

#[tokio::test]
async fn a_removal_in_between_ends_it_and_an_install_after_that_welcomes_nobody_twice() {
    let home = Home::new("2026-05-01T08:00:00Z", welcome());
    home.knows("ann", "en", None).await;
    home.hears(EventKind::Installed, "ann").await;
    home.pass(DAY).await;
    home.hears(EventKind::Uninstalled, "ann").await;
    assert_eq!(home.status("ann").await, Status::Ended(Ending::Exited));
    let view = home.views().await.remove(0);
    assert_eq!(
        (view.status, view.reason),
        (message::Status::Cancelled, Some(Reason::JourneyExited)),
        "it still waited"
    );
    home.pass(DAY).await;
    home.hears(EventKind::Installed, "ann").await;
    home.pass(DAY * 10).await;
    assert_eq!(home.mails().await.len(), 1);
}

#[tokio::test]
async fn nobody_is_mailed_in_quiet_hours_which_are_those_of_the_customer() {
    let journey = Journey { quiet_hours: Some("21:00-08:00".parse().unwrap()), ..welcome() };
    let home = Home::new("2026-05-01T22:30:00Z", journey);
    home.knows("ann", "en", None).await;
    home.knows("bob", "en", Some("America/Los_Angeles")).await;
    home.hears(EventKind::Installed, "ann").await;
    home.hears(EventKind::Installed, "bob").await;
    home.pass(DAY).await;
    assert_eq!(
        home.mails().await,
        [mail("welcome en", "2026-05-01T22:30:00Z"), mail("welcome en", "2026-05-02T06:00:00Z")]
    );
}

#[tokio::test]
async fn who_has_no_address_is_waited_for_and_then_given_up() {
    let home = Home::new("2026-05-01T08:00:00Z", welcome());
    home.hears(EventKind::Installed, "ann").await;
    home.hears(EventKind::Installed, "bob").await;
    home.pass(DAY * 6).await;
    assert_eq!((home.status("ann").await, home.mails().await), (Status::AwaitingContact, vec![]));
    home.knows("ann", "fr", None).await;
    home.pass(Duration::ZERO).await;
    assert_eq!(home.mails().await, [mail("welcome fr", "2026-05-07T08:00:00Z")]);
    home.pass(DAY * 2).await;
    assert_eq!(home.status("bob").await, Status::Ended(Ending::Unreachable));
    home.knows("bob", "fr", None).await;
    home.pass(DAY).await;
    assert_eq!(home.mails().await.len(), 1, "too late");
}

#[tokio::test]
async fn a_mail_that_cannot_be_made_is_tried_again_then_given_up_and_nobody_else_waits_for_it() {
    let journey = Journey { steps: vec![send("broken"), send("tips")], ..welcome() };
    let home = Home::new("2026-05-01T08:00:00Z", journey);
    for customer in ["ann", "bob"] {
        home.knows(customer, "en", None).await;
    }
    home.hears(EventKind::Installed, "ann").await;
    home.settle().await;
    assert_eq!(home.status("ann").await, Status::Active);
    home.pass(DAY).await;
    assert_eq!((home.status("ann").await, home.mails().await), (Status::Ended(Ending::Failed), vec![]));
    assert_eq!(home.journeys.round().await.unwrap().taken.len(), 0);
}

#[tokio::test]
async fn a_mail_that_nobody_had_time_to_make_stays_due_and_spends_no_try() {
    let home = Home::waiting("2026-05-01T08:00:00Z", welcome(), Tenant::plain("demo"), "0ms");
    home.knows("ann", "en", None).await;
    home.hears(EventKind::Installed, "ann").await;
    for _ in 0..10 {
        let round = home.journeys.round().await.unwrap();
        assert_eq!((round.taken.len(), round.more), (1, false));
        assert_eq!((round.taken[0].moved.as_ref(), round.taken[0].enrollment.tries), (None, 0));
    }
    assert_eq!((home.status("ann").await, home.mails().await), (Status::Active, vec![]));
}

#[tokio::test]
async fn who_wants_no_more_leaves_at_the_next_mail() {
    let home = Home::new("2026-05-01T08:00:00Z", welcome());
    home.knows("ann", "en", None).await;
    home.hears(EventKind::Installed, "ann").await;
    home.settle().await;
    let unwanted = NewSuppression {
        recipient: "ann@example.com".parse().unwrap(),
        scope: SuppressionScope::Journeys,
        source: Said::Operator,
        because: None,
        expires_at: None,
        at: home.clock.now(),
    };
    home.store.suppress(&tenant(), Actor::Command("suppressions"), vec![unwanted]).await.unwrap();
    home.pass(DAY * 10).await;
    assert_eq!((home.status("ann").await, home.mails().await.len()), (Status::Ended(Ending::Unsubscribed), 1));
}

#[tokio::test]
async fn more_mails_than_a_recipient_may_have_of_all_journeys_are_passed_over() {
    let journey = Journey {
        steps: vec![send("welcome"), send("tips"), step(Action::Wait("2d".parse().unwrap())), send("tips")],
        ..welcome()
    };
    let brand = Tenant { journey_mails: Limit::AtMost("1/d".parse().unwrap()), ..Tenant::plain("demo") };
    let home = Home::of("2026-05-01T08:00:00Z", journey, brand);
    home.knows("ann", "en", None).await;
    home.hears(EventKind::Installed, "ann").await;
    home.pass(DAY * 3).await;
    assert_eq!(
        home.mails().await,
        [mail("welcome en", "2026-05-01T08:00:00Z"), mail("tips en", "2026-05-03T08:00:00Z")]
    );
    let funnel = home.store.funnel(&tenant(), &home.journey.name).await.unwrap();
    let steps: Vec<_> = funnel.steps.iter().map(|step| (step.step, step.outcome.as_str())).collect();
    assert_eq!(steps, [(0, "sent"), (1, "capped"), (2, "waited"), (3, "sent")]);
    assert_eq!(home.status("ann").await, Status::Ended(Ending::Completed));
}

#[tokio::test]
async fn every_mail_of_a_journey_says_how_to_leave_it() {
    let home = Home::new("2026-05-01T08:00:00Z", welcome());
    home.knows("ann", "en", None).await;
    home.hears(EventKind::Installed, "ann").await;
    home.settle().await;
    let id = home.views().await[0].id;
    let mail = home.store.outgoing(id).await.unwrap().unwrap();
    let mail = String::from_utf8(mail.mime).unwrap();
    let url = mail.lines().find_map(|line| line.strip_prefix("List-Unsubscribe: <")).unwrap().trim_end_matches('>');
    assert!(url.starts_with("https://demo.example/u/"), "{url}");
    assert!(mail.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"), "{mail}");
    let body = mail.replace("=\r\n", "");
    assert!(body.contains(url.trim()), "the template is told as well");
}
