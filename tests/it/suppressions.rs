//! Suppressions as operators and brands use them: over HTTP, by command, from files.

use postern::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, House, Inbox, finish, free_port, mail, request, wait_for};

const ANN: &str = "ann@customer.example";

impl Gateway {
    fn say(&self, path: &str, body: &Value) -> Answer {
        let headers = [("X-API-KEY", self.key.as_str()), ("Content-Type", "application/json")];
        request("POST", &self.url(path), &headers, Some(body.to_string().as_bytes()))
    }
}

fn recipients(answer: &Answer) -> Vec<Value> {
    let listed = answer.json();
    let items = listed["items"].as_array().unwrap_or_else(|| panic!("{listed}"));
    items.iter().map(|one| one["recipient"].clone()).collect()
}

#[test]
fn who_is_suppressed_is_answered_so_and_not_mailed_until_that_is_taken_back() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let in_an_hour = Clock::now(&SystemClock) + jiff::SignedDuration::from_hours(1);
    let waiting = gateway.send_as(ANN, &json!({"sendAt": in_an_hour.to_string()}));
    let added = gateway.say("/v1/suppressions", &json!({"recipient": "Ann@customer.example", "because": "by phone"}));
    assert_eq!(added.status, 201);
    let shown = added.json();
    assert_eq!(
        (&shown["scope"], &shown["source"], &shown["change"]),
        (&json!("everything"), &json!("operator"), &json!("added"))
    );
    assert_eq!((&shown["recipient"], &shown["because"]), (&json!("Ann@customer.example"), &json!("by phone")));
    let again = gateway.say("/v1/suppressions", &json!({"recipient": ANN}));
    assert_eq!(
        (again.status, &again.json()["change"], &again.json()["because"]),
        (200, &json!("known"), &json!("by phone"))
    );

    let answer = gateway.post(&mail(ANN));
    assert_eq!((answer.status, &answer.json()["status"]), (202, &json!("suppressed")));
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let kept = gateway.message(&id);
    assert_eq!((&kept["status"], &kept["reason"]), (&json!("suppressed"), &json!("suppressed")));
    assert_eq!(gateway.kinds(&id), ["suppressed"]);
    let why = gateway.get(&format!("/v1/emails/{id}/why")).json();
    assert_eq!(why["decisions"][0]["rule"], "suppression", "{why}");
    let why = gateway.get(&format!("/v1/emails/{waiting}/why")).json();
    let next =
        why["decisions"].as_array().unwrap().iter().any(|one| one["rule"] == "suppression" && one["status"] == "next");
    assert!(next, "{why}");
    let found = gateway.get("/v1/emails?reason=suppressed").json();
    assert_eq!(found["items"][0]["id"], id);

    // The one that waits is tried now: it ends at its commit point.
    assert_eq!(gateway.say(&format!("/v1/emails/{waiting}/retry"), &json!({})).status, 200);
    gateway.wait_for_status(&waiting, "suppressed");
    let removed = gateway.say("/v1/suppressions/remove", &json!({"recipient": ANN})).json();
    assert_eq!(removed["removed"].as_array().unwrap().len(), 1, "{removed}");
    let id = gateway.send(ANN);
    gateway.wait_for_status(&id, "relayed");
    assert_eq!(inbox.total(), 1, "nothing else went out");
    gateway.stop();
}

#[test]
fn who_is_suppressed_for_a_while_is_mailed_again_after_it() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let inside = |length: jiff::SignedDuration| (Clock::now(&SystemClock) + length).to_string();
    let say = |recipient: &str, until: &str| {
        gateway.say("/v1/suppressions", &json!({"recipient": recipient, "expiresAt": until}))
    };
    for wrong in ["2020-01-31T12:00:00Z", "30d"] {
        let refused = say(ANN, wrong);
        assert_eq!((refused.status, &refused.json()["errors"][0]["pointer"]), (422, &json!("/expiresAt")));
    }
    let hour = inside(jiff::SignedDuration::from_hours(1));
    let lift = json!([{"recipient": ANN}, {"recipient": ANN, "expiresAt": hour}]);
    let refused = gateway.say("/v1/suppressions/remove", &lift);
    assert_eq!((refused.status, &refused.json()["errors"][0]["pointer"]), (422, &json!("/1/expiresAt")));
    let added = say(ANN, &hour);
    let parsed = |shown: &Value| shown.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let wanted = parsed(&json!(hour));
    assert_eq!((added.status, parsed(&added.json()["expiresAt"])), (201, wanted));
    assert_eq!(gateway.post(&mail(ANN)).json()["status"], "suppressed");
    let listed = gateway.get(&format!("/v1/suppressions?recipient={ANN}")).json();
    assert_eq!(parsed(&listed["items"][0]["expiresAt"]), wanted);
    let lasting = gateway.say("/v1/suppressions", &json!({"recipient": ANN})).json();
    assert_eq!((&lasting["change"], &lasting["expiresAt"]), (&json!("added"), &Value::Null));
    assert_eq!(say(ANN, &hour).json()["change"], "known");

    let bob = "bob@customer.example";
    assert_eq!(say(bob, &inside(jiff::SignedDuration::from_secs(3))).status, 201);
    wait_for("the end of it", || {
        recipients(&gateway.get(&format!("/v1/suppressions?recipient={bob}"))).is_empty().then_some(())
    });
    let id = gateway.send(bob);
    gateway.wait_for_status(&id, "relayed");
    gateway.stop();
}

#[test]
fn suppressions_are_listed_in_pages_and_belong_to_one_tenant_and_its_keys() {
    let house = House::new(free_port(), "");
    house.write(
        "tenants/other.toml",
        "name = \"Other\"\nfrom = \"o@other.example\"\nfrom_allowed = [\"other.example\"]\nrelays = [\"primary\"]\n",
    );
    let gateway = house.serve();
    let many: Vec<Value> =
        (0..7).map(|n| json!({"recipient": format!("c{n}@customer.example"), "scope": "journeys"})).collect();
    let added = gateway.say("/v1/suppressions", &json!(many));
    assert_eq!((added.status, added.json().as_array().unwrap().len()), (201, 7));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = gateway.get(&format!("/v1/suppressions?limit=3&scope=journeys&cursor={cursor}"));
        seen.extend(recipients(&page));
        match page.json()["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, (0..7).rev().map(|n| json!(format!("c{n}@customer.example"))).collect::<Vec<_>>());
    assert!(recipients(&gateway.get("/v1/suppressions?scope=everything")).is_empty());

    let wrong = gateway.say("/v1/suppressions", &json!([{"recipient": ANN}, {"recipient": "zq", "colour": "zq"}]));
    let pointers: Vec<Value> =
        wrong.json()["errors"].as_array().unwrap().iter().map(|one| one["pointer"].clone()).collect();
    assert_eq!((wrong.status, pointers), (422, vec![json!("/1/colour"), json!("/1/recipient")]));
    assert!(recipients(&gateway.get(&format!("/v1/suppressions?recipient={ANN}"))).is_empty(), "all of them or none");
    assert_eq!(gateway.say("/v1/suppressions", &json!("x")).status, 400);

    let as_key = |key: &str, method: &str, body: Option<&[u8]>| {
        let headers = [("X-API-KEY", key), ("Content-Type", "application/json")];
        request(method, &gateway.url("/v1/suppressions"), &headers, body)
    };
    let other = house.key_of("other", &["read", "manage"]);
    assert!(recipients(&as_key(&other, "GET", None)).is_empty());
    let reader = house.key(&["read"]);
    assert_eq!(recipients(&as_key(&reader, "GET", None)).len(), 7);
    let body = json!({"recipient": ANN}).to_string();
    assert_eq!(as_key(&reader, "POST", Some(body.as_bytes())).status, 403);
    assert_eq!(as_key(&house.key(&["send"]), "GET", None).status, 403);
    assert_eq!(request("GET", &gateway.url("/v1/suppressions"), &[], None).status, 401);
    gateway.stop();
}

#[test]
fn commands_say_it_beside_the_gateway_and_a_file_says_it_of_many() {
    let house = House::new(free_port(), "");
    let drawing = "tenant = \"demo\"\ntrigger = \"pass.first-install\"\n[[step]]\nsend = \"welcome\"\n";
    house.write("journeys/welcome.toml", drawing);
    let gateway = house.serve();
    let misspelt = ["suppressions", "add", ANN, "--tenant", "demo", "--scope", "journey:welcom"];
    assert_eq!(finish(&mut house.command(&misspelt)).status.code(), Some(2));
    let of_demo = |arguments: &[&str]| house.json(&[&["suppressions"], arguments, &["--tenant", "demo"]].concat());
    let added =
        of_demo(&["add", ANN, "bob@customer.example", "--scope", "journey:welcome", "--because", "asked at the till"]);
    assert_eq!((added.as_array().unwrap().len(), &added[0]["change"]), (2, &json!("added")));
    let added = of_demo(&["add", ANN]);
    assert_eq!((&added[0]["scope"], &added[0]["addedBy"]), (&json!("everything"), &json!("command:suppressions")));
    assert_eq!(gateway.post(&mail(ANN)).json()["status"], "suppressed");
    assert_eq!(of_demo(&["list", "--recipient", ANN]).as_array().unwrap().len(), 2);
    assert_eq!(of_demo(&["list", "--scope", "journey:welcome"]).as_array().unwrap().len(), 2);
    assert_eq!(of_demo(&["remove", ANN])["removed"].as_array().unwrap().len(), 2);
    assert_eq!(gateway.post(&mail(ANN)).json()["status"], "queued");

    let csv = "Recipient;SCOPE;because\r\n\
               cid@customer.example;;\r\n\
               Dan <dan@customer.example>;journeys;list of 2024\r\n\
               zq;;\r\n\
               eve@customer.example;sometimes;\"=HYPERLINK(1)\"\r\n\
               cid@CUSTOMER.example;everything;\r\n";
    house.write("people.csv", csv);
    let path = house.config().join("people.csv");
    let import = |more: &[&str]| {
        let all = [
            "suppressions",
            "import",
            path.to_str().unwrap(),
            "--tenant",
            "demo",
            "--delimiter",
            ";",
            "--format",
            "json",
        ];
        finish(&mut house.command(&[&all[..], more].concat()))
    };
    let tried = import(&["--dry-run"]);
    assert_eq!(tried.status.code(), Some(1));
    assert_eq!(of_demo(&["list"]).as_array().unwrap().len(), 1, "nothing was kept");
    let done = import(&[]);
    assert_eq!(done.status.code(), Some(1), "rows were refused");
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    let counts = ["rows", "added", "known", "refused"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [5, 2, 1, 2], "{report}");
    let refusals = report["refusals"].as_array().unwrap();
    let places: Vec<String> =
        refusals.iter().map(|one| format!("{} {}", one["line"], one["field"].as_str().unwrap())).collect();
    assert_eq!(places, ["4 recipient", "5 scope", "5 because"]);
    assert!(!String::from_utf8_lossy(&done.stderr).contains("zq"), "no value is repeated");
    assert_eq!(gateway.post(&mail("cid@customer.example")).json()["status"], "suppressed");
    assert_eq!(gateway.post(&mail("dan@customer.example")).json()["status"], "queued", "it is no journey's");

    house.write("people.csv", "recipient,colour\nx,y\n");
    let other = finish(&mut house.command(&["suppressions", "import", path.to_str().unwrap(), "--tenant", "demo"]));
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("column 2 is not known"));
    gateway.stop();
}

#[test]
fn commands_and_files_say_for_how_long_somebody_is_suppressed() {
    let house = House::new(free_port(), "");
    let of_demo = |arguments: &[&str]| house.json(&[&["suppressions"], arguments, &["--tenant", "demo"]].concat());
    let month = of_demo(&["add", "fay@customer.example", "--for", "30d"]);
    let time = |name: &str| month[0][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("expiresAt").duration_since(time("addedAt")), jiff::SignedDuration::from_hours(30 * 24));
    let table = finish(&mut house.command(&["suppressions", "list", "--tenant", "demo"]));
    let until = time("expiresAt").strftime("%Y-%m-%d").to_string();
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("UNTIL") && table.contains(&until), "{table}");
    let never = ["suppressions", "add", ANN, "--tenant", "demo", "--for", "0s"];
    assert_eq!(finish(&mut house.command(&never)).status.code(), Some(2));
    assert_eq!(of_demo(&["remove", "fay@customer.example"])["removed"].as_array().unwrap().len(), 1);

    let csv = "recipient;expiresAt\nfay@customer.example;2999-01-31T12:00:00Z\ngil@customer.example;\n\
               hal@customer.example;2020-01-31T12:00:00Z\n";
    house.write("people.csv", csv);
    let path = house.config().join("people.csv");
    let path = path.to_str().unwrap();
    let import = ["suppressions", "import", path, "--tenant", "demo", "--delimiter", ";", "--format", "json"];
    let report: Value = serde_json::from_slice(&finish(&mut house.command(&import)).stdout).unwrap();
    assert_eq!((&report["added"], &report["refusals"][0]["field"]), (&json!(2), &json!("expiresAt")), "{report}");
    let until = |recipient: &str| of_demo(&["list", "--recipient", recipient])[0]["expiresAt"].clone();
    assert!(until("fay@customer.example").as_str().is_some_and(|until| until.starts_with("2999-01-31T12:00:00")));
    assert_eq!(until("gil@customer.example"), Value::Null);
}

#[test]
fn check_warns_of_journeys_whose_links_mail_programs_do_not_follow() {
    let house = House::new(free_port(), "");
    let found = |house: &House| house.json(&["check"])["found"].to_string();
    assert!(!found(&house).contains("RFC 8058"));
    house.write(
        "journeys/welcome.toml",
        "tenant = \"demo\"\ntrigger = \"pass.first-install\"\nentry = \"once-per-customer\"\n[[step]]\nsend = \"welcome\"\n",
    );
    assert!(found(&house).contains("server.public_url is not https"), "{}", found(&house));
    house.replace("[server]", "[server]\npublic_url = \"https://mail.brand.example\"");
    assert!(!found(&house).contains("RFC 8058"));
}

#[test]
fn a_journey_that_does_not_exist_cannot_be_suppressed() {
    let house = House::new(free_port(), "");
    let gateway = house.serve_keeping();
    let one = gateway.say("/v1/suppressions", &json!({"recipient": ANN, "scope": "journey:nosuch"}));
    assert_eq!((one.status, &one.json()["errors"][0]["pointer"]), (422, &json!("/scope")), "{}", one.json());
    let many = json!([{"recipient": ANN}, {"recipient": ANN, "scope": "journey:nosuch"}]);
    let many = gateway.say("/v1/suppressions", &many);
    assert_eq!((many.status, &many.json()["errors"][0]["pointer"]), (422, &json!("/1/scope")), "{}", many.json());
    assert_eq!(recipients(&gateway.get("/v1/suppressions")), Vec::<Value>::new());
}
