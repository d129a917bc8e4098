//! Debian's Postfix as a relay: its own queue, log and mailbox, stopped when its test ends.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::harness::{free_port, succeed, wait_for};

pub const USER: &str = "gateway";
const PASSWORD: &str = "not-a-secret";
/// Mails come from this machine as they are.
const OPEN: &str = "mynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject\n";
/// Everybody is known.
const TAKES_ALL: &str = "virtual_mailbox_maps = static:all/\n";

/// A Postfix of our own: its queue, its log, its port; stopped when dropped.
pub struct Postfix {
    dir: TempDir,
    pub port: u16,
}

impl Postfix {
    /// One that asks for STARTTLS and AUTH.
    pub fn start() -> Self {
        Self::start_with(&format!(
            "mynetworks =\nsmtpd_relay_restrictions = permit_sasl_authenticated, reject\n{TAKES_ALL}"
        ))
    }

    /// One that takes mails from this machine as they come.
    pub fn start_open() -> Self {
        Self::start_with(&format!("{OPEN}{TAKES_ALL}"))
    }

    /// One that takes mails from this machine, knows ann@customer.example alone, finds the mailbox of full@ full and
    /// cannot deliver to late@ now. What it reports goes to this port by LMTP.
    pub fn start_returning(lmtp: SocketAddr) -> Self {
        Self::start_with(&format!(
            "{OPEN}smtpd_reject_unlisted_recipient = no\n\
             virtual_mailbox_maps = inline:{{ ann@customer.example=all/ }}\n\
             transport_maps = inline:{{ bounces.demo.example=lmtp:inet:{lmtp}, \
             {{ full@customer.example = error:5.2.2 the mailbox is full }}, \
             {{ late@customer.example = retry:4.4.1 not now }} }}\n\
             delay_warning_time = 1s\nqueue_run_delay = 1s\nminimal_backoff_time = 1s\nmaximal_backoff_time = 1s\n"
        ))
    }

    /// With what main.cf says of who may send, and to whom. Nothing in it is said twice: every part of Postfix would warn of that, also
    /// the one that writes the log, to itself, and where its socket holds few datagrams it waits for itself for ever.
    fn start_with(who: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let postfix = Self { dir, port: free_port().port() };
        for folder in ["conf", "queue", "data", "mail"] {
            std::fs::create_dir(postfix.path(folder)).unwrap();
        }
        std::fs::write(postfix.path("password"), format!("{PASSWORD}\n")).unwrap();
        let chown = ["postfix".into(), postfix.path("data"), postfix.path("mail")];
        assert!(Command::new("chown").args(chown).status().unwrap().success());
        postfix.make_certificate();
        serve_authentication(&postfix.path("auth.sock"));
        std::fs::write(postfix.path("conf/main.cf"), postfix.main_cf() + who).unwrap();
        std::fs::write(postfix.path("conf/master.cf"), postfix.master_cf()).unwrap();
        succeed(Command::new("postfix").arg("-c").arg(postfix.path("conf")).arg("start"));
        wait_for("Postfix to listen", || std::net::TcpStream::connect(("127.0.0.1", postfix.port)).ok());
        postfix
    }

    /// A file of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn make_certificate(&self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    fn main_cf(&self) -> String {
        let id = |flag: &str| {
            let output = Command::new("id").args([flag, "postfix"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let dir = self.dir.path().display();
        let mut text = String::new();
        for line in [
            "compatibility_level = 3.6".to_owned(),
            format!("queue_directory = {dir}/queue\ndata_directory = {dir}/data"),
            "command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin".to_owned(),
            "mail_owner = postfix\nsetgid_group = postdrop\nmyhostname = relay.example\nmydestination =".to_owned(),
            "inet_interfaces = 127.0.0.1\ninet_protocols = ipv4".to_owned(),
            "alias_maps =\nalias_database =".to_owned(),
            "smtpd_tls_security_level = may\nsmtpd_tls_auth_only = yes\nsmtpd_tls_received_header = yes".to_owned(),
            format!("smtpd_tls_cert_file = {dir}/cert.pem\nsmtpd_tls_key_file = {dir}/key.pem"),
            format!("smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {dir}/auth.sock"),
            format!("virtual_mailbox_domains = customer.example\nvirtual_mailbox_base = {dir}/mail"),
            "virtual_minimum_uid = 1".to_owned(),
            format!("virtual_uid_maps = static:{}\nvirtual_gid_maps = static:{}", id("-u"), id("-g")),
            format!("maillog_file = {dir}/mail.log\nmaillog_file_prefixes = {dir}"),
        ] {
            writeln!(text, "{line}").unwrap();
        }
        text
    }

    fn master_cf(&self) -> String {
        let port = self.port;
        format!(
            "127.0.0.1:{port} inet n - n - - smtpd\n\
             pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n\
             tlsmgr unix - - n 1000? 1 tlsmgr\nrewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\n\
             defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\nverify unix - - n - 1 verify\n\
             proxymap unix - - n - - proxymap\nerror unix - - n - - error\nretry unix - - n - - error\n\
             virtual unix - n n - - virtual\nlmtp unix - - n - - lmtp\nanvil unix - - n - 1 anvil\npostlog unix-dgram n - n - 1 postlogd\n"
        )
    }

    /// The mails in its mailbox.
    pub fn delivered(&self) -> Vec<PathBuf> {
        let Ok(folder) = std::fs::read_dir(self.path("mail/all/new")) else { return Vec::new() };
        folder.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // By its number, it and what it started: `postfix abort` logs first, and waits for whoever writes the log.
        let Ok(id) = std::fs::read_to_string(self.path("queue/pid/master.pid")) else { return };
        let _ = Command::new("kill").args(["-s", "KILL", "--", &format!("-{}", id.trim())]).status();
    }
}

/// The other half of Postfix's AUTH: Dovecot's authentication protocol over a socket, for one user.
fn serve_authentication(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || authenticate(stream));
        }
    });
}

fn authenticate(mut stream: UnixStream) {
    let hello = "VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0123456789abcdef\nDONE\n";
    if stream.write_all(hello.as_bytes()).is_err() {
        return;
    }
    let good = STANDARD.encode(format!("\0{USER}\0{PASSWORD}"));
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        let fields: Vec<&str> = line.split('\t').collect();
        let ["AUTH", id, ..] = fields.as_slice() else { continue };
        let answer = if fields.iter().any(|field| *field == format!("resp={good}")) {
            format!("OK\t{id}\tuser={USER}\n")
        } else {
            format!("FAIL\t{id}\tuser={USER}\n")
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
