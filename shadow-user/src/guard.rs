//! `shadowtap guard`: the guards that are pinned on this host, shown and taken down.

use std::io::{self, Write as _};
use std::path::Path;

use crate::cli::{GuardCommand, GuardRemoveArgs};
use crate::kernel::PinnedGuard;
use crate::lock;
use crate::setting::Refusal;

/// Carries out `shadowtap guard …`.
///
/// # Errors
/// A [`Refusal`] when a guard is still needed or the interface is not there; anything else when
/// the kernel refuses.
pub fn run(command: GuardCommand) -> anyhow::Result<()> {
    let guards = PinnedGuard::list()?
        .into_iter()
        .map(|guard| Ok((daemon(&guard)?, guard)))
        .collect::<io::Result<Vec<_>>>()?;
    let text = match command {
        GuardCommand::Show => show(&guards),
        GuardCommand::Remove(args) => remove(args, guards)?,
    };
    // A reader who has left does not make it a failure.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// The process whose sessions a guard protects.
fn daemon(guard: &PinnedGuard) -> io::Result<Option<u32>> {
    let ports = guard.rule.port_min..=guard.rule.port_max;
    let ports = (!guard.is_foreign()).then_some(ports);
    for shadow in &guard.shadows {
        let holder = lock::holder(Path::new(lock::DIRECTORY), *shadow, ports.clone())?;
        if holder.is_some() {
            return Ok(holder);
        }
    }
    Ok(None)
}

fn name(guard: &PinnedGuard) -> String {
    guard.interface.clone().unwrap_or_else(|| format!("{} (gone)", guard.index))
}

fn shadows(guard: &PinnedGuard) -> String {
    guard.shadows.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn mode(guard: &PinnedGuard) -> String {
    if guard.is_foreign() {
        "foreign".to_owned()
    } else {
        format!("own {}-{}", guard.rule.port_min, guard.rule.port_max)
    }
}

fn show(guards: &[(Option<u32>, PinnedGuard)]) -> String {
    if guards.is_empty() {
        return "no guard is pinned\n".to_owned();
    }
    let mut rows = vec![["INTERFACE", "SHADOW", "MODE", "DROPPED", "DAEMON"].map(str::to_owned)];
    rows.extend(guards.iter().map(|(daemon, guard)| {
        [
            name(guard),
            shadows(guard),
            mode(guard),
            guard.dropped.to_string(),
            daemon.map_or_else(|| "none".to_owned(), |pid| pid.to_string()),
        ]
    }));
    table(&rows)
}

/// Columns as wide as their widest cell.
fn table(rows: &[[String; 5]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn remove(
    args: GuardRemoveArgs,
    guards: Vec<(Option<u32>, PinnedGuard)>,
) -> anyhow::Result<String> {
    let wanted = |guard: &PinnedGuard| match &args.iface {
        Some(iface) => guard.interface.as_ref() == Some(iface),
        None => true,
    };
    let guards: Vec<_> = guards.into_iter().filter(|(_, guard)| wanted(guard)).collect();
    if let Some((Some(pid), guard)) = guards.iter().find(|(daemon, _)| daemon.is_some()) {
        return Err(Refusal::new(
            "guard remove",
            format!(
                "process {pid} mirrors to {} behind the guard on {}",
                shadows(guard),
                name(guard)
            ),
            format!("stop it first: kill {pid}"),
        )
        .into());
    }
    let mut text = String::new();
    for (_, guard) in guards {
        text += &format!("removed from {}: {} {}\n", name(&guard), shadows(&guard), mode(&guard));
        guard.remove()?;
    }
    if text.is_empty() {
        text = "no guard is pinned\n".to_owned();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_names() {
        let rows = [["A", "BB", "C", "D", "E"], ["aaa", "b", "c", "d", "e"]];
        let text = table(&rows.map(|row| row.map(str::to_owned)));
        assert_eq!(text, "A    BB  C  D  E\naaa  b   c  d  e\n");
    }
}
