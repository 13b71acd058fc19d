//! Who has the processor first: production.

use std::io;

use rustix::process::nice;

/// Lets whatever else runs on this host go first, from now on, in this thread: it has less weight in the contest for
/// a processor, and interrupts nobody when it wakes up (`SCHED_BATCH`, sched(7)).
///
/// `steps` are added to the nice value that this process was started with (nice(2)); each is a factor of 1.25 in
/// weight.
///
/// # Errors
/// Those of nice(2) and `sched_setscheduler(2)`. Threads can always be made nicer; a sandbox may refuse it.
pub fn stand_back(steps: i32) -> io::Result<()> {
    // Of this thread alone (setpriority(2), "C library/kernel differences").
    nice(steps)?;
    // The only priority that the policy has.
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread; `param` is read during the call alone.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_stands_back_and_no_other() {
        let stat = || {
            let task = procfs::process::Process::myself().unwrap();
            let stat = task.task_from_tid(rustix::thread::gettid().as_raw_nonzero().get());
            let stat = stat.unwrap().stat().unwrap();
            (stat.nice, stat.policy)
        };
        let before = stat();
        let in_thread = std::thread::spawn(move || {
            stand_back(3).unwrap();
            stat()
        });
        let batch = u32::try_from(libc::SCHED_BATCH).unwrap();
        let nicer = (before.0 + 3).min(19);
        assert_eq!(in_thread.join().unwrap(), (nicer, Some(batch)));
        assert_eq!(stat(), before);
    }
}
