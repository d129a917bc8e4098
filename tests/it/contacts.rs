//! Contacts as brands use them: over HTTP, from files, and out of their CRM.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, House, finish, free_port, request};

impl Gateway {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("X-API-KEY", self.key.as_str()), ("Content-Type", "application/json")];
        let body = body.to_string();
        request(method, &self.url(path), &headers, (method == "PUT").then_some(body.as_bytes()))
    }
}

fn gateway() -> Gateway {
    House::new(free_port(), "").serve_keeping()
}

fn ann() -> Value {
    json!({
        "email": "Ann@Customer.example", "name": "Ann", "culture": "fr_CA", "timezone": "europe/paris",
        "consent": {"newsletter": {"granted": true, "at": "2026-01-31T10:00:00+01:00", "source": "till"}},
        "fields": {"tier": "gold", "points": 7},
    })
}

#[test]
fn what_is_said_of_a_customer_is_read_back_whatever_their_identifier_holds() {
    let gateway = gateway();
    for (path, customer) in [
        ("C-1", "C-1"),
        ("a%2Fb%3Fc%23d%25e%20f%2Bg+h", "a/b?c#d%e f+g+h"),
        ("Zo%C3%AB%20%E6%B3%A8", "Zo\u{eb} \u{6ce8}"),
        ("Ann%40Customer.Example", "ann@customer.example"),
        ("%252F", "%2F"),
        ("...", "..."),
    ] {
        let path = format!("/v1/contacts/{path}");
        let first = gateway.ask("PUT", &path, &ann());
        assert_eq!(first.status, 201, "{customer}: {:?}", first.json());
        let kept = first.json();
        assert_eq!(kept["customerId"], customer);
        assert_eq!((&kept["email"], &kept["culture"]), (&json!("Ann@customer.example"), &json!("fr-CA")));
        assert_eq!(kept["timezone"], "Europe/Paris");
        let newsletter = json!({"granted": true, "at": "2026-01-31T09:00:00.000Z", "source": "till"});
        assert_eq!(
            (&kept["consent"]["newsletter"], &kept["fields"]),
            (&newsletter, &json!({"tier": "gold", "points": 7}))
        );
        assert_eq!(gateway.get(&path).json(), kept, "{customer}");

        let again = gateway.ask("PUT", &path, &ann());
        assert_eq!((again.status, &again.json()["changedAt"]), (200, &kept["changedAt"]));
        assert_eq!(gateway.ask("DELETE", &path, &Value::Null).status, 204);
        assert_eq!(gateway.get(&path).status, 404);
        assert_eq!(gateway.ask("DELETE", &path, &Value::Null).status, 404);
    }
    let wrong = gateway.ask("PUT", "/v1/contacts/C-1", &json!({"email": "zq", "colour": "zq", "timezone": "Zq/Zq"}));
    let errors = wrong.json()["errors"].as_array().unwrap().clone();
    let pointers: Vec<&Value> = errors.iter().map(|error| &error["pointer"]).collect();
    assert_eq!((wrong.status, pointers), (422, vec![&json!("/colour"), &json!("/email"), &json!("/timezone")]));
    assert!(!wrong.json().to_string().contains("zq"));
    for body in ["", "[]", "{"] {
        let headers = [("X-API-KEY", gateway.key.as_str()), ("Content-Type", "application/json")];
        assert_eq!(request("PUT", &gateway.url("/v1/contacts/C-1"), &headers, Some(body.as_bytes())).status, 400);
    }
    assert_eq!(gateway.ask("PUT", "/v1/contacts/a%0Ab", &ann()).status, 422);
    assert_eq!(
        gateway.ask("POST", "/v1/contacts/C-1", &Value::Null).header("allow"),
        Some("PUT, GET, HEAD, DELETE, OPTIONS")
    );
    gateway.stop();
}

#[test]
fn contacts_are_listed_in_pages_and_belong_to_one_tenant_and_its_keys() {
    let house = House::new(free_port(), "");
    house.write("tenants/other.toml", "from = \"wallet@other.example\"\nrelays = [\"primary\"]\n");
    let (reader, other) = (house.key(&["read"]), house.key_of("other", &["read", "manage"]));
    let gateway = house.serve();
    for number in 0..5 {
        let contact = json!({"email": format!("c{}@customer.example", number % 2)});
        assert_eq!(gateway.ask("PUT", &format!("/v1/contacts/C{number}"), &contact).status, 201);
    }
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["customerId"].as_str().unwrap().to_owned()).collect()
    };
    let first = gateway.get("/v1/contacts?limit=3").json();
    assert_eq!(ids(&first), ["C0", "C1", "C2"]);
    let second = gateway.get(&format!("/v1/contacts?limit=3&cursor={}", first["nextCursor"].as_str().unwrap())).json();
    assert_eq!((ids(&second), &second["nextCursor"]), (vec!["C3".to_owned(), "C4".to_owned()], &Value::Null));
    assert_eq!(ids(&gateway.get("/v1/contacts?email=C1%40Customer.example").json()), ["C1", "C3"]);
    assert_eq!(gateway.get("/v1/contacts?limit=0&who=x").json()["errors"].as_array().unwrap().len(), 2);

    let by = |key: &str, method: &str, path: &str| {
        let headers = [("X-API-KEY", key), ("Content-Type", "application/json")];
        request(method, &gateway.url(path), &headers, (method == "PUT").then_some(b"{}".as_slice())).status
    };
    assert_eq!(by(&reader, "GET", "/v1/contacts/C1"), 200);
    assert_eq!((by(&reader, "PUT", "/v1/contacts/C1"), by(&reader, "DELETE", "/v1/contacts/C1")), (403, 403));
    assert_eq!((by(&other, "GET", "/v1/contacts/C1"), by(&other, "DELETE", "/v1/contacts/C1")), (404, 404));
    assert_eq!(gateway.get("/v1/contacts/C1").status, 200);
    gateway.stop();
}

#[test]
fn a_file_of_contacts_is_imported_beside_the_gateway_and_refused_rows_keep_no_other_back() {
    let house = House::new(free_port(), "");
    let gateway = house.serve();
    let csv = house.path("customers.csv");
    let mut text = "\u{feff}CustomerID,Email,name,consent.news,fields.tier\r\n".to_owned();
    text.extend((0..1_200).map(|n| format!("C{n:04},c{n}@customer.example,\"Zq, {n} of the house\",yes,gold\r\n")));
    text += "zqC-x,zq-no-address,Zq,yes,gold\r\n,c@customer.example,,perhaps,\r\nzqC-y,y@customer.example,,,,zq\r\n";
    std::fs::write(&csv, &text).unwrap();
    let file = csv.to_str().unwrap();
    let import = |arguments: &[&str]| {
        let mut all = vec!["contacts", "import", file, "--tenant", "demo", "--format", "json"];
        all.extend(arguments);
        let output = finish(&mut house.command(&all));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report, String::from_utf8(output.stderr).unwrap())
    };
    let (code, report, told) = import(&["--dry-run"]);
    assert_eq!(
        (code, &report["rows"], &report["refused"], &report["created"]),
        (Some(1), &json!(1203), &json!(3), &json!(0))
    );
    assert_eq!(
        told,
        "line 1202: email: not an address of the form a@b or Name <a@b>\n\
         line 1203: consent/news/granted: must be true or false (yes, no, 1, 0)\n\
         line 1204: 6 fields, but 5 columns\n"
    );
    assert_eq!(gateway.get("/v1/contacts").json()["items"], json!([]));

    let (code, report, told) = import(&[]);
    assert_eq!((code, &report["created"], &report["refused"]), (Some(1), &json!(1200), &json!(3)));
    assert_eq!(report["refusals"][0]["line"], 1202);
    assert!(!told.contains("zq") && !report.to_string().contains("zq"), "{told} {report}");
    let kept = gateway.get("/v1/contacts/C0007").json();
    assert_eq!(
        (&kept["email"], &kept["name"], &kept["origin"]),
        (&json!("c7@customer.example"), &json!("Zq, 7 of the house"), &json!("import"))
    );
    assert_eq!((&kept["consent"]["news"]["granted"], &kept["fields"]["tier"]), (&json!(true), &json!("gold")));
    let (_, report, _) = import(&[]);
    assert_eq!((&report["created"], &report["unchanged"]), (&json!(0), &json!(1200)));

    let lines = house.path("customers.ndjson");
    std::fs::write(&lines, "{\"customerId\":\"C0007\",\"email\":\"seven@customer.example\"}\n").unwrap();
    let report = house.json(&["contacts", "import", lines.to_str().unwrap(), "--tenant", "demo"]);
    assert_eq!((&report["changed"], &report["refused"]), (&json!(1), &json!(0)));
    let shown = house.json(&["contacts", "show", "C0007", "--tenant", "demo"]);
    assert_eq!((&shown["email"], &shown["consent"]), (&json!("seven@customer.example"), &json!({})));
    let listed = house.json(&["contacts", "list", "--tenant", "demo", "--email", "Seven@customer.example"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    house.json(&["contacts", "remove", "C0007", "--tenant", "demo", "--yes"]);
    assert_eq!(gateway.get("/v1/contacts/C0007").status, 404);
    for (arguments, code) in [
        (&["contacts", "show", "C0007", "--tenant", "demo"][..], 1),
        (&["contacts", "show", "C0007", "--tenant", "nobody"], 2),
        (&["contacts", "remove", "C0001", "--tenant", "demo"], 2),
        (&["contacts", "import", "no-such.csv", "--tenant", "demo"], 2),
        (&["contacts", "import", "customers.txt", "--tenant", "demo"], 2),
    ] {
        assert_eq!(finish(&mut house.command(arguments)).status.code(), Some(code), "{arguments:?}");
    }
    gateway.stop();
}

/// A CRM that answers so many questions, each by the customer's identifier, and says what it was asked.
fn crm(questions: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let work = move || {
        let mut asked = Vec::new();
        for stream in listener.incoming().take(questions) {
            let mut stream = stream.unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            let (status, body) = match head.split(' ').nth(1).unwrap() {
                "/c/zqC%2F1" => ("200 OK", r#"{"contact":{"email":"zqann@customer.example"},"name":"Zq"}"#),
                "/c/zqC-2" => ("404 Not Found", ""),
                _ => ("503 Sorry", "zq"),
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
            asked.push(head);
        }
        asked
    };
    (format!("http://{address}"), std::thread::spawn(work))
}

#[test]
fn the_crm_is_asked_for_who_is_not_known_and_no_log_tells_whom_or_with_what() {
    let house = House::new(free_port(), "");
    let (url, server) = crm(5);
    std::fs::write(house.path("crm-key"), "zqs3cret\n").unwrap();
    let tenant = format!(
        "from = \"wallet@demo.example\"\nrelays = [\"primary\"]\n[contact_lookup]\nurl = \"{url}/c/{{customerId}}\"\n\
         header = \"X-Crm-Key\"\nheader_value_file = {:?}\nemail = \"/contact/email\"\n",
        house.path("crm-key")
    );
    house.write("tenants/demo.toml", &tenant);
    let gateway = house.serve();
    assert_eq!(gateway.get("/v1/contacts/zqC%2F1").status, 404, "nobody is asked unless it is wished");
    let found = gateway.get("/v1/contacts/zqC%2F1?lookup=true");
    assert_eq!((found.status, &found.json()["origin"]), (200, &json!("lookup")));
    assert_eq!(gateway.get("/v1/contacts/zqC%2F1").json(), found.json(), "it is known now");
    assert_eq!(gateway.get("/v1/contacts/zqC-2?lookup=true").status, 404);
    assert_eq!(gateway.get("/v1/contacts/zqC-2?lookup=true").status, 404);
    let failed = gateway.get("/v1/contacts/zqC-3?lookup=true");
    assert_eq!((failed.status, &failed.json()["type"]), (502, &json!("/problems/lookup-failed")));
    // A command asks for itself.
    let missing = finish(&mut house.command(&["contacts", "show", "zqC-2", "--tenant", "demo", "--lookup"]));
    assert_eq!(missing.status.code(), Some(1));
    let shown = house.json(&["contacts", "show", "zqC/1", "--tenant", "demo", "--lookup"]);
    assert_eq!(shown["email"], "zqann@customer.example");

    let asked = server.join().unwrap();
    let keyed = |head: &&String| head.to_lowercase().contains("\r\nx-crm-key: zqs3cret\r\n");
    assert_eq!(asked.iter().filter(keyed).count(), 5, "{asked:?}");
    let told = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!told.contains("zq"), "{told}");
    let Gateway { mut process, .. } = gateway;
    process.signal("TERM");
    assert!(process.wait().success());
    let log = format!("{:?}", process.log());
    assert!(log.contains("the CRM was asked for a contact in vain"), "{log}");
    assert!(!log.to_lowercase().contains("zq"), "{log}");
}
