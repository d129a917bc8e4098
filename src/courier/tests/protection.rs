//! TLS, STARTTLS, client certificates, AUTH and the settings that ask for them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;

use super::fake_relay::*;
use super::*;

/// An authority, the relay's certificate for `relay.example`, and ours, in a folder.
struct Pki {
    folder: TempDir,
    authority: CertificateDer<'static>,
    relays: CertificateDer<'static>,
    relays_key: Vec<u8>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |name: &str, usage| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            (params.signed_by(&key, &authority).unwrap(), key)
        };
        let (relays, relays_key) = signed("relay.example", ExtendedKeyUsagePurpose::ServerAuth);
        let (ours, our_key) = signed("postern.example", ExtendedKeyUsagePurpose::ClientAuth);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(folder.path().join("our.pem"), ours.pem()).unwrap();
        std::fs::write(folder.path().join("our.key"), our_key.serialize_pem()).unwrap();
        let authority = authority.der().clone();
        Self { folder, authority, relays: relays.der().clone(), relays_key: relays_key.serialize_der() }
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).to_str().unwrap().to_owned()
    }

    fn encrypt(&self) -> Step {
        self.encrypt_for(None)
    }

    fn encrypt_for(&self, clients: Option<&CertificateDer<'static>>) -> Step {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.relays_key.clone()));
        Step::Encrypt(Arc::new(builder.with_single_cert(vec![self.relays.clone()], key).unwrap()))
    }

    /// Settings that trust this authority.
    fn trusting(&self, tls: &str) -> Value {
        json!({"tls": tls, "tls_server_name": "relay.example", "ca_file": self.path("ca.pem")})
    }
}

fn with(mut settings: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("not an object") };
    settings.as_object_mut().unwrap().extend(more);
    settings
}

#[tokio::test]
async fn a_mail_goes_out_encrypted_from_the_first_byte_or_after_starttls() {
    let pki = Pki::new();
    let rest = [welcome(&["PIPELINING", "SIZE 5000"]), vec![Step::Serve]].concat();
    let clear = vec![say("220 r"), hear("EHLO"), say(&ehlo_reply(&["starttls"])), hear("STARTTLS"), say("220 go")];
    for (mode, script) in [
        ("implicit", [vec![pki.encrypt()], rest.clone()].concat()),
        ("starttls", [clear, vec![pki.encrypt()], rest[1..].to_vec()].concat()),
    ] {
        let relay = FakeRelay::follows(vec![script.clone(), script]).await;
        let courier = courier_to(&relay, pki.trusting(mode));
        reply_of(carried(&courier).await);
        let facts = courier.inspect(&relay_name()).await.unwrap();
        assert_eq!(facts.tls.unwrap().version, "TLSv1_3");
        assert_eq!((facts.auth, facts.capabilities.size), (None, Some(5_000)));
        drop(courier);
        let heard = relay.heard().await;
        assert_eq!(heard[0].contents.len(), 1);
        assert_eq!(heard[1].lines.last().map(String::as_str), Some("QUIT"));
    }
}

#[tokio::test]
async fn words_slipped_in_before_the_handshake_are_refused() {
    let clear = [say("220 r"), hear("EHLO"), say(&ehlo_reply(&["STARTTLS"])), hear("STARTTLS")];
    let relay =
        FakeRelay::follows(vec![[clear.to_vec(), vec![say("220 go\n250-evil\n250 AUTH PLAIN")]].concat()]).await;
    let courier = courier_to(&relay, Pki::new().trusting("starttls"));
    let trouble = courier.greet(&relay_name()).await.unwrap_err();
    assert_eq!(trouble, Trouble { stage: Stage::Tls, kind: TroubleKind::Garbled });
    assert_eq!(relay.heard().await[0].lines.len(), 2);
}

#[tokio::test]
async fn without_starttls_nothing_more_is_said() {
    let pki = Pki::new();
    for (script, said) in [
        (welcome(&["AUTH PLAIN"]), 1),
        ([welcome(&["STARTTLS"]), vec![hear("STARTTLS"), say("454 not now")]].concat(), 2),
    ] {
        let relay = FakeRelay::follows(vec![script]).await;
        let more = with(pki.trusting("starttls"), json!({"username": "u", "password": "p"}));
        let trouble = courier_to(&relay, more).greet(&relay_name()).await.unwrap_err();
        assert_eq!(trouble.stage, Stage::Tls);
        assert_eq!(relay.heard().await[0].lines.len(), said);
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_or_authority_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    for (more, what) in [
        (with(pki.trusting("implicit"), json!({"tls_server_name": "other.example"})), "not valid for name"),
        (with(pki.trusting("implicit"), json!({"tls_server_name": null})), "not valid for name"),
        (other.trusting("implicit"), "invalid peer certificate"),
    ] {
        let relay = FakeRelay::follows(vec![vec![pki.encrypt()]]).await;
        let trouble = courier_to(&relay, more).greet(&relay_name()).await.unwrap_err();
        assert!(
            matches!(&trouble, Trouble { stage: Stage::Tls, kind: TroubleKind::Tls(text) } if text.contains(what)),
            "{trouble}"
        );
        relay.heard().await;
    }
}

#[tokio::test]
async fn a_relay_that_asks_for_a_certificate_gets_ours() {
    let pki = Pki::new();
    let script = [vec![pki.encrypt_for(Some(&pki.authority))], welcome(&[]), vec![Step::Serve]].concat();
    let relay = FakeRelay::follows(vec![script.clone(), script]).await;
    let ours = json!({"client_cert_file": pki.path("our.pem"), "client_key_file": pki.path("our.key")});
    reply_of(carried(&courier_to(&relay, with(pki.trusting("implicit"), ours))).await);
    let trouble = courier_to(&relay, pki.trusting("implicit")).greet(&relay_name()).await.unwrap_err();
    assert!(matches!(trouble.kind, TroubleKind::Tls(_) | TroubleKind::Closed(_)), "{trouble}");
    relay.heard().await;
}

#[tokio::test]
async fn a_mail_lost_over_tls_is_judged_by_what_left_before_encryption() {
    let pki = Pki::new();
    let start = [vec![pki.encrypt()], welcome(&[]), takes_content()[..6].to_vec()].concat();
    for (last, is_unknown) in [(vec![Step::Take(1_000), Step::Stall], false), (vec![Step::Content, Step::Close], true)]
    {
        let relay = FakeRelay::follows(vec![[start.clone(), last].concat()]).await;
        let courier = courier_to(&relay, with(pki.trusting("implicit"), json!({"command_timeout": "500ms"})));
        let size = if is_unknown { 100 } else { 1_500_000 };
        let carried = offered(&courier).await.carry(b"0123456789\r\n".repeat(size), &|| true).await;
        assert_eq!(matches!(carried, Carried::Unknown(_)), is_unknown, "{carried:?}");
        assert_eq!(matches!(carried, Carried::Lost(_)), !is_unknown, "{carried:?}");
        relay.heard().await;
    }
}

/// A relay without TLS that offers these mechanisms and then does this.
async fn relay_with_auth(offer: &str, dialogue: Vec<Step>) -> FakeRelay {
    FakeRelay::follows(vec![[welcome(&[offer]), dialogue].concat()]).await
}

fn account(auth: &Value) -> Value {
    json!({"username": "ann", "password": "pässword", "auth": auth, "allow_plaintext": true})
}

fn leaked(text: &str) -> &'static str {
    text.to_owned().leak()
}

#[tokio::test]
async fn we_prove_who_we_are_by_the_mechanism_wanted_or_the_best_offered() {
    let plain = leaked(&format!("AUTH PLAIN {}", BASE64.encode("\0ann\0pässword")));
    let token = leaked(&format!("AUTH XOAUTH2 {}", BASE64.encode("user=ann\x01auth=Bearer pässword\x01\x01")));
    let (name, password) = (leaked(&BASE64.encode("ann")), leaked(&BASE64.encode("pässword")));
    let yes = || say("235 2.7.0 yes");
    let login = || vec![hear("AUTH LOGIN"), say("334 anything"), hear(name), say("334 "), hear(password), yes()];
    for (offer, wanted, dialogue, mechanism) in [
        ("AUTH LOGIN PLAIN", json!(null), vec![hear(plain), yes()], AuthMechanism::Plain),
        ("AUTH login cram-md5", json!(null), login(), AuthMechanism::Login),
        ("AUTH PLAIN LOGIN", json!("login"), login(), AuthMechanism::Login),
        ("AUTH PLAIN XOAUTH2", json!("xoauth2"), vec![hear(token), yes()], AuthMechanism::Xoauth2),
    ] {
        let relay = relay_with_auth(offer, dialogue).await;
        let facts = courier_to(&relay, account(&wanted)).inspect(&relay_name()).await.unwrap();
        assert_eq!((facts.auth, facts.tls), (Some(mechanism), None));
        relay.heard().await;
    }
}

#[tokio::test]
async fn a_relay_that_does_not_believe_us_or_knows_no_way_is_trouble() {
    let no = || say("535 5.7.8 no");
    let login_name = vec![hear("AUTH LOGIN"), say("334 x"), hear("YW5u"), no()];
    for (offer, wanted, dialogue, kind) in [
        ("AUTH PLAIN", json!(null), vec![hear("AUTH PLAIN "), no()], TroubleKind::Refused(535)),
        ("AUTH LOGIN", json!(null), login_name, TroubleKind::Refused(535)),
        (
            "AUTH XOAUTH2",
            json!("xoauth2"),
            vec![hear("AUTH XOAUTH2 "), say("334 e30="), hear(""), no()],
            TroubleKind::Refused(535),
        ),
        ("AUTH PLAIN", json!(null), vec![hear("AUTH PLAIN "), say("334 more?")], TroubleKind::Refused(334)),
        ("AUTH CRAM-MD5", json!(null), vec![], TroubleKind::NoMechanism),
        ("AUTH XOAUTH2", json!(null), vec![], TroubleKind::NoMechanism),
        ("SIZE", json!("plain"), vec![], TroubleKind::NoMechanism),
    ] {
        let relay = relay_with_auth(offer, dialogue).await;
        let trouble = courier_to(&relay, account(&wanted)).greet(&relay_name()).await.unwrap_err();
        assert_eq!(trouble, Trouble { stage: Stage::Auth, kind });
        relay.heard().await;
    }
}

fn problem_keys(more: Value) -> Vec<&'static str> {
    settings(25, more).problems().into_iter().map(|(key, _)| key).collect()
}

#[test]
fn settings_that_cannot_work_are_named_all_at_once() {
    let pki = Pki::new();
    let (ours, ca) = (pki.path("our.pem"), pki.path("ca.pem"));
    for (more, keys) in [
        (json!({}), &[][..]),
        (json!({"host": "localhost"}), &[]),
        (json!({"host": "::1"}), &[]),
        (json!({"host": "mx.example"}), &["tls"]),
        (json!({"host": "mx.example", "allow_plaintext": true}), &[]),
        (json!({"username": "u", "password": "p"}), &["tls"]),
        (json!({"username": "u", "password_file": "f", "allow_plaintext": true}), &[]),
        (json!({"username": "u", "allow_plaintext": true}), &["username"]),
        (json!({"password": "p", "auth": "plain"}), &["password", "auth"]),
        (json!({"sessions": 0, "messages_per_session": 0, "port": 0}), &["port", "sessions", "messages_per_session"]),
        (json!({"hello_name": "a\r\nMAIL", "host": "a b"}), &["host", "hello_name", "tls"]),
        (json!({"data_timeout": "0s"}), &["data_timeout"]),
        (json!({"ca_file": ca}), &["ca_file"]),
        (json!({"tls": "implicit", "ca_file": ca, "client_cert_file": ours}), &["client_cert_file"]),
        (json!({"tls": "implicit", "ca_file": "nowhere"}), &["ca_file"]),
        (json!({"tls": "implicit", "ca_file": pki.path("our.key")}), &["ca_file"]),
        (
            json!({"tls": "starttls", "ca_file": ca, "client_cert_file": ours, "client_key_file": ours}),
            &["client_key_file"],
        ),
    ] {
        assert_eq!(problem_keys(more.clone()), keys, "{more}");
    }
}

#[test]
fn settings_know_their_keys_and_never_show_a_password() {
    let settings = settings(25, json!({"username": "u", "password": "hunter2", "allow_plaintext": true}));
    assert!(!format!("{settings:?}").contains("hunter2"));
    let unknown = json!({"name": "r", "host": "h", "port": 25, "tls": "none", "pasword": "x"});
    assert!(serde_json::from_value::<RelaySettings>(unknown).is_err());
    let twice = [settings.clone(), settings.clone()].to_vec();
    assert!(matches!(SmtpCourier::new(twice), Err(CourierError::Twice(_))));
    let unread = RelaySettings { password: None, password_file: Some("f".into()), ..settings };
    assert!(matches!(SmtpCourier::new(vec![unread]), Err(CourierError::Settings { key: "password_file", .. })));
}
