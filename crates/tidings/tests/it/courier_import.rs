//! `tidings courier import` from a real Postgres with the tables of a Courier.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
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
        let status = command.stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "{program}");
    }

    fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn url_of(&self, database: &str) -> String {
        format!("host={} user=courier dbname={database}", self.folder.path().display())
    }

    #[track_caller]
    fn query(&self, text: &str) {
        self.query_in("postgres", text);
    }

    #[track_caller]
    fn query_in(&self, database: &str, text: &str) {
        let folder = self.folder.path().to_str().unwrap();
        let place = ["-h", folder, "-U", "courier", "-d", database];
        self.run("psql", &[&["-q", "-v", "ON_ERROR_STOP=1", "-c", text], &place[..]].concat());
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
    import_from(&postgres.url(), data, more)
}

fn import_from(url: &str, data: &TempDir, more: &[&str]) -> Output {
    importing(url, data).args(more).output().unwrap()
}

fn importing(url: &str, data: &TempDir) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().current_dir(data.path());
    command.args(["courier", "import", "--database-url", url]);
    command.arg("--data").arg(data.path().join("hub"));
    command
}

/// `tidings courier` over what was brought.
fn serve(data: &TempDir) -> TestHub {
    let folder = data.path().join("hub");
    TestHub::launch(launch(&[("TIDINGS_DATA", folder.to_str().unwrap())]))
}

/// What a topic holds, from its beginning on.
fn everything(hub: &TestHub, audience: &str, topic: &str) -> Vec<String> {
    let application = Application::new(hub, audience);
    let mut client = application.connect("&after=earliest");
    client.subscribe(topic);
    let end = "\"the end\"";
    application.hook(topic, end);
    std::iter::repeat_with(|| client.next()).take_while(|text| text != end).collect()
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
    let all = "audiences: 2 new, 1 there already; topics: 2 new, 1 there already; \
               messages: 2501 new, 0 there already; left out: 3";
    says(&import(&postgres, &data, &["--dry-run"]), &format!("would bring {all}"));
    assert!(!data.path().join("hub").exists(), "nothing is written");
    let output = import(&postgres, &data, &[]);
    says(&output, all);
    let left = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(left.contains(&format!("message {}: its audience is not there", uuid(4, 2))), "{left}");
    let nothing = "audiences: 0 new, 3 there already; topics: 0 new, 3 there already; \
                   messages: 0 new, 2501 there already; left out: 3";
    says(&import(&postgres, &data, &["--dry-run"]), &format!("would bring {nothing}"));
    says(&import(&postgres, &data, &[]), nothing);
    postgres.query(&format!(
        "INSERT INTO courier.messages VALUES ('{}', '\"new\"', '{events}', '2022-01-01+00')",
        uuid(4, 3)
    ));
    let one = "messages: 1 new, 2501 there already; left out: 3";
    for _ in 0..2 {
        says(&import(&postgres, &data, &["--dry-run"]), one);
    }
    says(&import(&postgres, &data, &[]), one);

    let hub = serve(&data);
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

    for (more, why) in [(&[][..], "in use by another process"), (&["--dry-run"], "already open")] {
        let in_use = import(&postgres, &data, more);
        let said = String::from_utf8_lossy(&in_use.stderr).into_owned();
        assert!(!in_use.status.success() && said.contains(why), "{said}");
    }
}

/// Tables with one audience, `a`, and one topic, `t`.
const ONE: &str = "INSERT INTO courier.audiences VALUES
        ('00000001-0000-4000-8000-000000000001', 'a', '2020-01-01+00', '2020-01-01+00');
    INSERT INTO courier.topics VALUES ('00000002-0000-4000-8000-000000000001', 't',
        '00000001-0000-4000-8000-000000000001', '2020-01-01+00', '2020-01-01+00');";

/// A message in that topic.
fn in_t(id: u32, message: &str, made: &str) -> String {
    let (id, topic) = (uuid(3, id), uuid(2, 1));
    format!("INSERT INTO courier.messages VALUES ('{id}', '{message}', '{topic}', {made});")
}

#[test]
fn a_name_that_another_audience_has_taken_brings_it_nothing_of_the_first() {
    let (postgres, data) = (Postgres::start(), TempDir::new().unwrap());
    postgres.query(&format!("{SCHEMA}{ONE}{}", in_t(1, "\"of the first\"", "'2020-01-02+00'")));
    says(&import(&postgres, &data, &[]), "audiences: 1 new");
    let (other, topic) = (uuid(1, 2), uuid(2, 2));
    postgres.query(&format!(
        "UPDATE courier.audiences SET name = 'b';
        INSERT INTO courier.audiences VALUES ('{other}', 'a', '2021-01-01+00');
        INSERT INTO courier.topics VALUES ('{topic}', 't', '{other}', '2021-01-01+00');
        INSERT INTO courier.messages VALUES ('{}', '\"secret\"', '{topic}', '2021-01-01+00');{}",
        uuid(3, 2),
        in_t(3, "\"later\"", "'2021-01-02+00'")
    ));
    says(&import(&postgres, &data, &["--dry-run"]), "audiences: 1 new, 1 there already, 1 renamed");
    says(&import(&postgres, &data, &[]), "audiences: 1 new, 1 there already, 1 renamed; topics: 1");
    let hub = serve(&data);
    assert_eq!(everything(&hub, "b", "t"), ["\"of the first\"", "\"later\""]);
    assert_eq!(everything(&hub, "a", "t"), ["\"secret\""]);
    let audience = Application::new(&hub, "a").post("/v1/audience", "").expect(200).json();
    assert_eq!(audience["data"]["id"], json!(other));
}

#[test]
fn a_message_comes_once_wherever_its_database_is() {
    let (postgres, data) = (Postgres::start(), TempDir::new().unwrap());
    let first = in_t(1, "1", "'2020-01-02+00'");
    postgres.query(&format!("{SCHEMA}{ONE}{first}"));
    postgres.query("CREATE DATABASE restored");
    // A copy has everything, and goes on by itself.
    let second = in_t(2, "2", "'2020-01-01+00'");
    postgres.query_in("restored", &format!("{SCHEMA}{ONE}{first}{second}"));
    let another = format!("{} port=5432 application_name=x", postgres.url());
    let folder = postgres.folder.path().display().to_string().replace('/', "%2F");
    let as_a_url = format!("postgres://courier@{folder}/postgres");
    says(&import(&postgres, &data, &[]), "messages: 1 new, 0 there already");
    for url in [&another, &as_a_url] {
        says(&import_from(url, &data, &[]), "messages: 0 new, 1 there already");
    }
    let restored = postgres.url_of("restored");
    says(&import_from(&restored, &data, &[]), "messages: 1 new, 1 there already");
    says(&import(&postgres, &data, &[]), "messages: 0 new, 1 there already");
    says(&import_from(&restored, &data, &[]), "messages: 0 new, 2 there already");
    assert_eq!(everything(&serve(&data), "a", "t"), ["1", "2"]);
}

#[test]
fn a_message_comes_once_whatever_its_time() {
    let (postgres, data) = (Postgres::start(), TempDir::new().unwrap());
    let (first, last) = (in_t(1, "1", "'2020-01-02+00'"), in_t(2, "2", "'2022-01-02+00'"));
    postgres.query(&format!("{SCHEMA}{ONE}{first}{last}"));
    says(&import(&postgres, &data, &[]), "messages: 2 new");
    let times = ["'2020-01-02+00'", "'2020-01-01+00'", "'0044-03-15+00 BC'", "'-infinity'", "NULL"];
    for (number, time) in (3_u32..).zip(times) {
        postgres.query(&in_t(number, &number.to_string(), time));
        let said = format!("messages: 1 new, {} there already", number - 1);
        says(&import(&postgres, &data, &[]), &said);
    }
    postgres.query("UPDATE courier.messages SET created_at = 'infinity'");
    says(&import(&postgres, &data, &[]), "messages: 0 new, 7 there already; left out: 0");
    assert_eq!(everything(&serve(&data), "a", "t"), ["1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn an_audience_with_too_many_topics_keeps_no_message_back() {
    let (postgres, data) = (Postgres::start(), TempDir::new().unwrap());
    let (a, topic) = (uuid(1, 1), "'00000005-0000-4000-8000-' || lpad(to_hex(n), 12, '0')");
    let made = "'2021-01-01+00'::timestamptz + n * interval '1 s'";
    postgres.query(&format!(
        "{SCHEMA}{ONE}
        INSERT INTO courier.topics SELECT ({topic})::uuid, 't' || n, '{a}', {made}, {made}
            FROM generate_series(1, 10001) AS n;
        INSERT INTO courier.messages SELECT gen_random_uuid(), to_json(n), ({topic})::uuid, {made}
            FROM generate_series(9990, 10001) AS n;{}",
        in_t(1, "0", "'2020-01-02+00'")
    ));
    let all = "topics: 10000 new, 0 there already; messages: 13 new, 0 there already; left out: 2";
    says(&import(&postgres, &data, &["--dry-run"]), all);
    let output = import(&postgres, &data, &[]);
    says(&output, all);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = "topic 00000005-0000-4000-8000-000000002711: the audience has noted down 10000";
    assert!(said.contains(last), "{said}");
    let hub = serve(&data);
    assert_eq!(everything(&hub, "a", "t10001"), ["10001"]);
    let topics = Application::new(&hub, "a").get("/v1/topic").expect(200).json();
    assert_eq!(topics["data"].as_array().unwrap().len(), 10_000);
}

#[test]
fn an_import_that_is_killed_again_and_again_brings_everything_once() {
    const MESSAGES: usize = 6_000;
    let (postgres, data) = (Postgres::start(), TempDir::new().unwrap());
    postgres.query(&format!(
        "{SCHEMA}{ONE}
        INSERT INTO courier.messages SELECT gen_random_uuid(),
            json_build_object('n', n, 'x', repeat('x', CASE WHEN n % 3 = 0 THEN 4000 ELSE 9 END)),
            '{}', '2021-01-01+00'::timestamptz + n * interval '1 ms'
            FROM generate_series(1, {MESSAGES}) AS n;",
        uuid(2, 1)
    ));
    let (mut kills, mut patience) = (0, Duration::from_millis(15));
    loop {
        let mut child = importing(&postgres.url(), &data).stdout(Stdio::null()).spawn().unwrap();
        // Longer each time, so that it dies at other places, and is done at last.
        std::thread::sleep(patience);
        patience += patience / 4;
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status} after {kills} kills");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        if kills % 4 == 0 {
            // What was published meanwhile makes nobody forget what was brought.
            Application::new(&serve(&data), "a").hook("another", "1");
        }
    }
    assert!(kills >= 3, "killed {kills} times");
    let all = format!("messages: 0 new, {MESSAGES} there already; left out: 0");
    says(&import(&postgres, &data, &[]), &all);
    let brought = everything(&serve(&data), "a", "t");
    let number = |text: &String| serde_json::from_str::<Value>(text).unwrap()["n"].as_u64();
    let numbers: Vec<_> = brought.iter().filter_map(number).collect();
    let wrong = (1_u64..).zip(&numbers).find(|(expected, number)| expected != *number);
    assert_eq!((numbers.len(), wrong), (MESSAGES, None), "once, in order");
}

#[test]
fn what_is_wrong_with_a_file_of_variables_is_said() {
    let data = TempDir::new().unwrap();
    std::fs::write(data.path().join(".env"), "TIDINGS_DATA=hub\nhunter2\n").unwrap();
    let mut command = Command::new(PROGRAM);
    command.env_clear().current_dir(data.path()).args(["courier", "import"]);
    let said = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
    assert!(said.contains(".env: line 2 is not NAME=value"), "{said}");
    assert!(said.contains("COURIER_DATABASE_URL") && !said.contains("hunter2"), "{said}");
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
