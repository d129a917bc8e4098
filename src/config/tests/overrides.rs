//! What the environment says instead of the files.

use super::*;

#[test]
fn the_environment_overrides_a_key_in_its_own_type() {
    let environment = Environment::of([
        ("POSTERN__SERVER__LISTEN", "0.0.0.0:9000"),
        ("POSTERN__DELIVERY__WINDOW", "200"),
        ("POSTERN__DELIVERY__DOMAIN_SHARE", "0.5"),
        ("POSTERN__DELIVERY__RETRY", "[\"1s\", \"2s\"]"),
        ("POSTERN__LANES__URGENT__DELIVER_WITHIN", "1m"),
        ("POSTERN__STORE__URL", "sqlite:true"),
    ]);
    let folder = folder("[delivery]\nwindow = 100\n", &[]);
    let config = Config::load(folder.path(), &environment).map_err(|p| p.to_string()).unwrap();
    assert_eq!(config.server.listen.port(), 9000);
    assert_eq!(config.delivery.window, 200);
    assert_eq!(config.delivery.retry.len(), 2);
    assert_eq!(config.lanes.urgent.deliver_within.to_string(), "1m");
    assert_eq!(config.store.url, "sqlite:true");
}

#[test]
fn a_problem_with_an_override_names_the_variable() {
    let environment = Environment::of([
        ("POSTERN__SERVER__LISTNE", "127.0.0.1:1"),
        ("POSTERN__SEVER__LISTEN", "127.0.0.1:1"),
        ("POSTERN__SEVER__WORKERS", "3"),
        ("POSTERN__DELIVERY__WINDOW", "many"),
        ("POSTERN__DELIVERY__RETRY", "[\"1s\", \"soon\"]"),
        ("POSTERN__RELAYS__0__PORT", "25"),
        ("POSTERN__", "x"),
        ("POSTERN__LOG__LEVEL__DEEP", "x"),
        ("POSTERN__STORE__URL", "postgres://user:hunter2@db/postern"),
    ]);
    let found = problems(&folder("[log]\nlevel = \"info\"\n", &[]), &environment);
    for expected in [
        "environment: POSTERN__SERVER__LISTNE: unknown key",
        "environment: POSTERN__SEVER__LISTEN: unknown key",
        "environment: POSTERN__SEVER__WORKERS: unknown key",
        "environment: POSTERN__DELIVERY__WINDOW: invalid type",
        "environment: POSTERN__DELIVERY__RETRY: \"soon\" is not a duration",
        "environment: POSTERN__RELAYS__0__PORT: a list of tables",
        "environment: POSTERN__: names no key",
        "environment: POSTERN__LOG__LEVEL__DEEP: there is a value",
        "postern.toml: store.url: PostgreSQL comes in a later version",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}\nin {found:#?}");
    }
    assert_eq!(found.len(), 9, "{found:#?}");
}
