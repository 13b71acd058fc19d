//! The interfaces that a mirror hangs on, and what becomes of them while it runs.

use crate::host::Interface;
use crate::kernel::{KernelError, Pinning, Programs};

/// An interface with a program of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its name, by which it is found again.
    pub name: String,
    /// Whether clients' packets are captured from it.
    pub tap: bool,
    /// Whether the shadow's answers are awaited on it.
    pub guard: bool,
}

impl Link {
    /// Those with a tap or a guard, each once.
    #[must_use]
    pub fn all(taps: &[Interface], guards: &[Interface]) -> Vec<Self> {
        let mut links: Vec<Self> = Vec::new();
        for (interface, tap) in
            guards.iter().map(|guard| (guard, false)).chain(taps.iter().map(|tap| (tap, true)))
        {
            match links.iter_mut().find(|link| link.name == interface.name) {
                Some(link) => link.tap |= tap,
                None => {
                    links.push(Self { name: interface.name.clone(), tap, guard: !tap });
                }
            }
        }
        links
    }

    /// Attaches what belongs here, the guard first: nothing is sent that is not guarded.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn attach(&self, programs: &mut Programs, pinning: &Pinning) -> Result<(), KernelError> {
        if self.guard {
            attach_guard(programs, &self.name, pinning)?;
            tracing::debug!("the guard is attached to {}", self.name);
        }
        if self.tap {
            programs.attach_tap(&self.name)?;
            tracing::debug!("the tap is attached to {}", self.name);
        }
        Ok(())
    }
}

/// Pinned; where that cannot be, a guard that goes with the process does no harm as long as all
/// that it drops is for this host.
fn attach_guard(
    programs: &mut Programs,
    interface: &str,
    pinning: &Pinning,
) -> Result<(), KernelError> {
    match programs.attach_pinned_guard(interface, pinning) {
        Err(error @ (KernelError::NoBpffs(_) | KernelError::Pin { .. })) if !pinning.keep => {
            tracing::warn!("the guard on {interface} goes when this process is killed: {error}");
            programs.attach_guard(interface)
        }
        result => result,
    }
}

/// What has become of an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// It is gone, and its programs with it.
    Gone(Link),
    /// There is one of its name again, without our programs.
    Back(Link),
    /// It was taken down; its programs stay.
    Down(Link),
    /// It is up again.
    Up(Link),
}

/// The links of a running mirror, looked at now and then.
#[derive(Debug)]
pub struct Links(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    link: Link,
    /// `None` while there is none of its name.
    index: Option<u32>,
    up: bool,
}

impl Links {
    /// Those to which the programs were attached just now.
    #[must_use]
    pub fn new(links: &[Link], interfaces: &[Interface]) -> Self {
        let watched = |link: &Link| {
            let named = interfaces.iter().find(|other| other.name == link.name);
            Watched { link: link.clone(), index: named.map(|named| named.index), up: true }
        };
        Self(links.iter().map(watched).collect())
    }

    /// What has changed since the last look.
    pub fn look(&mut self, interfaces: &[Interface]) -> Vec<Change> {
        let mut changes = Vec::new();
        for watched in &mut self.0 {
            let link = &watched.link;
            // By its number: renamed, it still has our programs.
            let same = interfaces.iter().find(|other| Some(other.index) == watched.index);
            if let Some(same) = same {
                if same.up != watched.up {
                    watched.up = same.up;
                    let change = if same.up { Change::Up } else { Change::Down };
                    changes.push(change(link.clone()));
                }
                continue;
            }
            if watched.index.take().is_some() {
                changes.push(Change::Gone(link.clone()));
            }
            if let Some(other) = interfaces.iter().find(|other| other.up && other.name == link.name)
            {
                (watched.index, watched.up) = (Some(other.index), true);
                changes.push(Change::Back(link.clone()));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str, up: bool) -> Interface {
        Interface { index, name: name.into(), up, ..Interface::default() }
    }

    #[test]
    fn an_interface_with_tap_and_guard_is_one_link() {
        let (eth0, eth1) = (interface(2, "eth0", true), interface(3, "eth1", true));
        let links = Link::all(std::slice::from_ref(&eth0), &[eth1, eth0.clone()]);
        let roles: Vec<_> = links.iter().map(|l| (l.name.as_str(), l.tap, l.guard)).collect();
        assert_eq!(roles, [("eth1", false, true), ("eth0", true, true)]);
    }

    #[test]
    fn each_change_is_told_once() {
        let lo = interface(1, "lo", true);
        let link = Link { name: "eth0".into(), tap: true, guard: false };
        let mut links = Links::new(std::slice::from_ref(&link), &[interface(2, "eth0", true)]);
        let mut look = |eth0: Option<Interface>| {
            let all: Vec<_> = [Some(lo.clone()), eth0].into_iter().flatten().collect();
            links.look(&all)
        };
        assert_eq!(look(Some(interface(2, "eth0", true))), []);
        assert_eq!(look(Some(interface(2, "eth0", false))), [Change::Down(link.clone())]);
        assert_eq!(look(Some(interface(2, "wan", false))), []);
        assert_eq!(look(Some(interface(2, "eth0", true))), [Change::Up(link.clone())]);
        assert_eq!(look(None), [Change::Gone(link.clone())]);
        assert_eq!(look(None), []);
        assert_eq!(look(Some(interface(7, "eth0", false))), [], "not before it is up");
        assert_eq!(look(Some(interface(7, "eth0", true))), [Change::Back(link.clone())]);
        let both = [Change::Gone(link.clone()), Change::Back(link)];
        assert_eq!(look(Some(interface(9, "eth0", true))), both, "between two looks");
    }
}
