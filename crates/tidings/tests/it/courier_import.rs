//! `tidings courier import` from a real Postgres with the tables of a Courier.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;

use crate::courier::{Application, launch};
use crate::hub::{PROGRAM, TestHub};

/// A Postgres of its own, on a socket in its folder. Dropping it ends it.
struct Postgres {
    folder: TempDir,
    /// As whom it runs, where we are somebody as whom it does not.
    user: Option<u32>,
}

fn bin(name: &str) -> PathBuf {
    let output = Command::new("pg_config").arg("--bindir").output();
    let output = output.expect("a Postgres, of the package postgresql");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).join(name)
}

impl Postgres {
    fn start() -> Postgres {
        let id = |arguments: &[&str]| -> Option<u32> {
            let output = Command::new("id").args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse().ok()
        };
        let is_root = id(&["-u"]) == Some(0);
        let user = if is_root { id(&["-u", "postgres"]) } else { None };
        let folder = TempDir::new().unwrap();
        if user.is_some() {
            std::os::unix::fs::chown(folder.path(), user, None).unwrap();
        }
        let postgres = Postgres { folder, user };
        postgres.run("initdb", &["-D", "data", "-U", "courier", "-A", "trust", "--no-sync"]);
        let options = "-c listen_addresses='' -c fsync=off -k .";
        let options = options.replace("-k .", &format!("-k {}", postgres.folder.path().display()));
        postgres.run("pg_ctl", &["-D", "data", "-w", "-l", "log", "-o", &options, "start"]);
        postgres
    }

    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(bin(program));
        command.args(arguments).current_dir(self.folder.path());
        if let Some(user) = self.user {
            command.uid(user);
        }
        // Its server would keep a pipe open.
        let status = command.stdout(std::process::Stdio::null()).status().unwrap();
        assert!(status.success(), "{program}");
    }

    fn url(&self) -> String {
        format!("host={} user=courier dbname=postgres", self.folder.path().display())
    }

    #[track_caller]
    fn query(&self, text: &str) {
        let folder = self.folder.path().to_str().unwrap();
        self.run(
            "psql",
            &[
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                folder,
                "-U",
                "courier",
                "-d",
                "postgres",
                "-c",
                text,
            ],
        );
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", "data", "-m", "immediate", "stop"]);
    }
}

const SCHEMA: &str = "CREATE SCHEMA courier;
    CREATE TABLE courier.audiences (id uuid PRIMARY KEY, name varchar(255),
        created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);
    CREATE TABLE courier.topics (id uuid PRIMARY KEY, topic varchar(255), audience_id uuid,
        created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);
    CREATE TABLE courier.messages (id uuid PRIMARY KEY, message json, topic_id uuid,
        created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);";

fn uuid(kind: u8, number: u32) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012x}")
}

fn import(postgres: &Postgres, data: &TempDir, more: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.env_clear().current_dir(data.path());
    command.args(["courier", "import", "--database-url", &postgres.url()]);
    command.arg("--data").arg(data.path().join("hub")).args(more);
    command.output().unwrap()
}

#[track_caller]
fn says(output: &Output, expected: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(expected), "{}", text(&output.stdout));
}

#[test]
fn a_database_is_brought_once_and_goes_on_where_it_was() {
    let (postgres, data) = (Postgres::start(), TempDir::new().unwrap());
    let made = "'2020-01-02 03:04:05.678+00'";
    let [a, twin, b] = [1, 2, 3].map(|number| uuid(1, number));
    let [events, other, of_twin, lost] = [1, 2, 3, 4].map(|number| uuid(2, number));
    postgres.query(&format!(
        "{SCHEMA}
        INSERT INTO courier.audiences VALUES ('{a}', 'a.example', {made}, {made}, NULL),
            ('{twin}', 'a.example', '2021-01-01+00', {made}, NULL), ('{b}', 'b', {made}, {made}, {made}),
            ('{lost}', '', {made}, {made}, NULL);
        INSERT INTO courier.topics VALUES ('{events}', 'system/events', '{a}', {made}, {made}, NULL),
            ('{other}', 'x', '{b}', {made}, {made}, NULL),
            ('{of_twin}', 'system/events', '{twin}', {made}, {made}, NULL),
            ('{lost}', 'x', '{lost}', {made}, {made}, NULL);
        INSERT INTO courier.messages SELECT ('00000003-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
            json_build_object('n', n), '{events}', {made}::timestamptz + n * interval '1 ms'
            FROM generate_series(1, 2500) AS n;
        INSERT INTO courier.messages VALUES ('{}', '[1,  2]', '{of_twin}', '2021-01-01+00'),
            ('{}', '1', '{lost}', '2021-01-02+00');",
        uuid(4, 1),
        uuid(4, 2)
    ));
    says(&import(&postgres, &data, &["--dry-run"]), "messages: 2502");
    assert!(!data.path().join("hub").exists(), "nothing is written");
    let output = import(&postgres, &data, &[]);
    says(
        &output,
        "audiences: 2 (1 more of a name that is there already), topics: 3, messages: 2501, left out: 3",
    );
    let left = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(left.contains(&format!("message {}: its topic is not there", uuid(4, 2))), "{left}");
    says(&import(&postgres, &data, &[]), "messages: 0, left out: 2");
    postgres.query(&format!(
        "INSERT INTO courier.messages VALUES ('{}', '\"new\"', '{events}', '2022-01-01+00')",
        uuid(4, 3)
    ));
    says(&import(&postgres, &data, &[]), "messages: 1, left out: 2");

    let folder = data.path().join("hub");
    let hub = TestHub::launch(launch(&[("TIDINGS_DATA", folder.to_str().unwrap())]));
    let application = Application::new(&hub, "a.example");
    let audience = application.post("/v1/audience", "").expect(200).json();
    assert_eq!(audience["data"]["id"], json!(a), "the oldest one's");
    assert_eq!(audience["data"]["createdAt"], "2020-01-02T03:04:05.678Z");
    let topics = application.get("/v1/topic").expect(200).json();
    assert_eq!(topics["data"][0]["id"], json!(events));
    assert_eq!(topics["data"].as_array().unwrap().len(), 1);
    let mut client = application.connect("&after=earliest");
    client.subscribe("system/events");
    for number in 1..=2500 {
        client.expect(&format!("{{\"n\" : {number}}}"));
    }
    client.expect("[1,  2]");
    client.expect("\"new\"");

    let in_use = import(&postgres, &data, &[]);
    let said = String::from_utf8_lossy(&in_use.stderr).into_owned();
    assert!(!in_use.status.success() && said.contains("in use by another process"), "{said}");
}

#[test]
fn what_keeps_an_import_from_beginning_is_said() {
    let data = TempDir::new().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.env_clear().current_dir(data.path()).args(["courier", "import"]).args(arguments);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(run(&[]).contains("COURIER_DATABASE_URL"));
    let secret = "postgres://u:hunter2@127.0.0.1:1/c";
    let said = run(&["--database-url", secret, "--data", "x"]);
    assert!(said.contains("cannot be reached") && !said.contains("hunter2"), "{said}");
    let said = run(&["--database-url", "hunter2://", "--data", "x"]);
    assert!(said.contains("cannot be read") && !said.contains("hunter2"), "{said}");
}
