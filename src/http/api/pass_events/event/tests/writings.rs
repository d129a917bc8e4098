//! One event in every writing that is known of scripts, forms and the platform.

use super::*;

/// The event that everybody may write in a way of their own.
fn wanted() -> PassEvent {
    PassEvent {
        kind: EventKind::Installed,
        wallet: Wallet::Google,
        pass: Some("4711".into()),
        pass_type: Some("loyalty".into()),
        identifiers: BTreeMap::from([
            ("customerId".into(), "C-1".into()),
            ("email".into(), "ann@customer.example".into()),
            ("y2.customerId".into(), "99".into()),
        ]),
        counts: RegistrationCounts { active: Some(1), total: Some(2) },
        source: Source {
            tags: vec!["summer".into(), "shop".into()],
            medium: Some("email".into()),
            origin: Some("https://shop.example/?utm_campaign=summer".into()),
            user_agent: Some("Mozilla/5.0".into()),
        },
        occurred_at: Some("2026-01-31T09:00:00Z".parse().unwrap()),
        since: None,
        key: Some("id:e-1".into()),
        way: Way::Webhook,
    }
}

/// Identifiers and additional information of the same.
fn parts() -> (Value, Value) {
    let registration = json!({"activeRegistrationCount": 1, "totalRegistrationCount": "2"});
    let origin = ORIGIN;
    let source = json!({"tags": ["summer", "shop"], "medium": "email", "origin": origin, "userAgent": "Mozilla/5.0"});
    let additional = json!({"registrationInformation": registration, "registrationSource": source});
    let identifiers = json!({"customerId": "C-1", "email": "Ann@Customer.example", "y2.customerId": 99});
    (identifiers, additional)
}

const ORIGIN: &str = "https://shop.example/?utm_campaign=summer";

#[test]
fn one_event_is_the_same_however_it_is_written_as_json() {
    let (origin, (identifiers, additional)) = (ORIGIN, parts());
    let camel = json!({
        "passId": 4711, "passType": "loyalty", "device": "Google_Wallet",
        "identifiers": identifiers, "additionalInformation": additional,
    });
    let pascal = json!({
        "PassId": "4711", "PassType": "loyalty", "Device": "Android", "PassKind": "x", "Metadata": {"a": [1]},
        "Identifiers": {"CustomerID": " C-1 ", "EMAIL": "ann@customer.example", "Y2.CustomerId": "99"},
        "AdditionalInformation": {
            "RegistrationInformation": {"ActiveRegistrationCount": "1", "TotalRegistrationCount": 2.0},
            "RegistrationSource": {"Tags": ["summer", "shop"], "Medium": "email", "Origin": origin, "UserAgent": "Mozilla/5.0"},
        },
    });
    let snake = json!({
        "pass_id": 4711, "pass_type": "loyalty", "device": "google",
        "identifier_customerId": "C-1", "identifier_email": "ann@customer.example", "identifier_y2.customerId": "99",
        "registration_information": {"active_registration_count": 1, "total_registration_count": 2},
        "registration_source": {"tags": "[\"summer\",\"shop\"]", "medium": "email", "origin": origin, "user_agent": "Mozilla/5.0"},
    });
    let in_text = json!({
        "passId": "4711", "passType": "loyalty", "device": "google", "identifiers": identifiers.to_string(),
        "additionalInformation": additional.to_string(),
    });
    let envelope = |data: &str, value: &Value| {
        json!({
            "eventId": "e-1", "timestamp": "2026-01-31T09:00:00Z", "tenantId": "brand", "eventType": "Pass:Installed",
            "operationId": "o-1", data: value,
        })
    };
    let flat = |value: &Value| {
        let mut flat = value.clone();
        let around = json!({"EventId": "e-1", "Timestamp": 1_769_850_000_000_i64, "Type": "pass.installed"});
        flat.as_object_mut().unwrap().extend(around.as_object().unwrap().clone());
        flat
    };
    for data in [&camel, &pascal, &snake, &in_text] {
        for body in [
            envelope("properties", data),
            envelope("data", data),
            envelope("Payload", data),
            envelope("payload", &Value::String(data.to_string())),
            flat(data),
        ] {
            assert_eq!(read(&body), Ok(wanted()), "{body}");
        }
    }
}

#[test]
fn one_event_is_the_same_however_it_is_written_as_a_form() {
    let (identifiers, additional) = parts();
    let in_a_form = |rest: &str| {
        format!(
            "event=installed&eventId=e-1&occurredAt=2026-01-31T10:00:00%2B01:00&passId=4711&passType=loyalty&device=google&{rest}"
        )
    };
    let encoded = |value: &Value| form_urlencoded::byte_serialize(value.to_string().as_bytes()).collect::<String>();
    for body in [
        in_a_form(&format!("identifiers={}&additionalInformation={}", encoded(&identifiers), encoded(&additional))),
        in_a_form(
            "identifiers[customerId]=C-1&identifiers[y2.customerId]=99&identifiers[email]=ann%40customer.example\
             &additionalInformation[registrationInformation][activeRegistrationCount]=1\
             &additionalInformation[registrationInformation][totalRegistrationCount]=2\
             &additionalInformation[registrationSource][tags][0]=summer\
             &additionalInformation[registrationSource][tags][1]=shop\
             &additionalInformation[registrationSource][medium]=email\
             &additionalInformation[registrationSource][origin]=https://shop.example/?utm_campaign=summer\
             &additionalInformation[registrationSource][userAgent]=Mozilla/5.0",
        ),
        in_a_form(
            "identifiers.customerId=C-1&identifiers.y2.customerId=99&identifier_email=ann@customer.example\
             &additionalInformation.registrationInformation.activeRegistrationCount=1\
             &additionalInformation.registrationInformation.totalRegistrationCount=2\
             &additionalInformation.registrationSource.tags=summer&additionalInformation.registrationSource.tags=shop\
             &additionalInformation.registrationSource.medium=email\
             &additionalInformation.registrationSource.origin=https://shop.example/?utm_campaign=summer\
             &additionalInformation.registrationSource.userAgent=Mozilla/5.0",
        ),
    ] {
        assert_eq!(read_as(Way::Webhook, Media::Form, &body), Ok(wanted()), "{body}");
    }
    let body = "type=installed&eventId=e-1&date=1769850000&data.passId=4711&data.passType=loyalty&data.device=google\
                &data.identifiers.customerId=C-1&data.identifiers.email=ann@customer.example\
                &data.identifiers.y2.customerId=99";
    let plain = PassEvent { counts: RegistrationCounts::default(), source: Source::default(), ..wanted() };
    assert_eq!(read_as(Way::Webhook, Media::Form, body), Ok(plain));
}
