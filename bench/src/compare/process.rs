//! What processes use, as the kernel counts it. Knows no servers.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::Pid;

/// Clock ticks of `/proc/stat` in a second: fixed in the kernel's interface (USER_HZ).
const TICKS: f64 = 100.0;

/// A process and all that it started.
pub(crate) fn family(pid: u32) -> BTreeSet<u32> {
    let mut family = BTreeSet::from([pid]);
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    loop {
        let before = family.len();
        let children = parents.iter().filter(|(_, parent)| family.contains(parent));
        let children: Vec<u32> = children.map(|(child, _)| *child).collect();
        family.extend(children);
        if family.len() == before {
            return family;
        }
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain anything; then come the state and the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// CPU of a process and all that it started, in seconds. The clock of a process counts nanoseconds,
/// and threads that ended as well, which the files of `/proc` for threads do not.
pub(crate) fn cpu(pid: u32) -> io::Result<f64> {
    let of = |pid| -> io::Result<f64> {
        let pid = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
        let clock = ClockId::pid_cpu_clock_id(pid)?;
        Ok(Duration::from(clock.now()?).as_secs_f64())
    };
    let family = family(pid);
    // One of the others may just have ended.
    let others = family.iter().filter(|one| **one != pid).filter_map(|one| of(*one).ok());
    Ok(of(pid)? + others.sum::<f64>())
}

/// Resident memory of a process and all that it started, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let of = |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    family(pid).into_iter().filter_map(of).sum::<u64>() * 1024
}

/// CPU that the whole machine used since it started, in seconds; a hundredth is its step.
pub(crate) fn machine() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq: all but the two that are no work.
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at)).sum::<f64>();
    Ok(busy / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_of_threads_that_ended_is_counted() {
        let own = std::process::id();
        let before = cpu(own).unwrap();
        let spin = || {
            let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
            while Duration::from(clock.now().unwrap()) < Duration::from_millis(30) {}
        };
        std::thread::spawn(spin).join().unwrap();
        assert!(cpu(own).unwrap() - before > 0.029);
        assert!(resident(own) > 100_000 && machine().unwrap() > 0.0);
    }

    #[test]
    fn children_belong_to_the_family() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(family(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
