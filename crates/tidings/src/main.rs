//! Temporary: `serve --config FILE` and `dev`.
use std::path::PathBuf;
use std::process::ExitCode;

use tidings::{app, config};

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let is_dev = arguments.get(1).is_some_and(|command| command == "dev");
    let load = move || {
        if is_dev {
            let listen = option("--listen").unwrap_or("127.0.0.1:3000".into());
            let data = PathBuf::from(option("--data").unwrap_or(".tidings".into()));
            config::dev(listen.parse().expect("an address"), &data)
        } else {
            config::load(option("--config").map(PathBuf::from).as_deref())
        }
    };
    let config = match load() {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{}", mistakes.report(false));
            return ExitCode::from(2);
        }
    };
    let shown = config.clone();
    let launch = app::Launch {
        config,
        reload: Box::new(|| Err("not wired".into())),
        listening: Box::new(move |addresses| {
            if shown.dev.is_some()
                && let Some(address) = addresses.first()
            {
                eprintln!("{}", config::banner(&shown, *address));
            }
        }),
    };
    match app::run(launch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
