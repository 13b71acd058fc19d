//! Where lines go: standard output, or a file that may be renamed under the writer's hands.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::writer::Dropped;

/// What the user named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// `-`.
    Stdout,
    /// Appended to, and made when it is not there.
    File(PathBuf),
}

/// An open target.
#[derive(Debug)]
pub struct Sink {
    target: Target,
    /// None while a named pipe has no reader.
    out: Option<File>,
    /// A pipe's next reader must not begin with the rest of a line.
    is_pipe: bool,
}

impl Sink {
    /// Opens the target; a named pipe's reader may come later.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn open(target: Target) -> io::Result<Self> {
        let (out, is_pipe) = open(&target)?;
        Ok(Self { target, out, is_pipe })
    }

    /// Opens it again, as after it was renamed. What is open stays so until that has succeeded.
    ///
    /// # Errors
    /// As [`Sink::open`].
    pub fn reopen(&mut self) -> io::Result<()> {
        if self.target != Target::Stdout {
            (self.out, self.is_pipe) = open(&self.target)?;
        }
        Ok(())
    }

    /// Writes all of `octets`, or says how many were written and what stood against the rest.
    pub fn write(&mut self, octets: &[u8]) -> (usize, Option<io::Error>) {
        if self.out.is_none()
            && let Err(error) = self.reopen()
        {
            return (0, Some(error));
        }
        let Some(out) = &mut self.out else { return (0, Some(Errno::NXIO.into())) };
        let mut written = 0;
        while let Some(rest) = octets.get(written..).filter(|rest| !rest.is_empty()) {
            match out.write(rest) {
                Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Some(error)),
            }
        }
        (written, None)
    }

    /// Whether whoever reads next begins in the middle.
    #[must_use]
    pub const fn is_pipe(&self) -> bool {
        self.is_pipe
    }
}

fn open(target: &Target) -> io::Result<(Option<File>, bool)> {
    let file = match target {
        Target::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        Target::File(path) => {
            // Without it, opening a named pipe waits for its reader.
            let flags = OFlags::NONBLOCK.bits().cast_signed();
            let open = OpenOptions::new().append(true).create(true).custom_flags(flags).open(path);
            match open {
                Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                    return Ok((None, true));
                }
                other => other?,
            }
        }
    };
    // Writing may wait: this is the thread that waits.
    if matches!(target, Target::File(_)) {
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    }
    let kind = file.metadata()?.file_type();
    Ok((Some(file), kind.is_fifo() || kind.is_socket() || kind.is_char_device()))
}

/// The bucket of lines that an error has cost.
#[must_use]
pub fn bucket(error: &io::Error) -> Dropped {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Dropped::StorageFull
        }
        io::ErrorKind::BrokenPipe => Dropped::ReaderGone,
        _ if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Dropped::ReaderGone,
        _ => Dropped::Unwritable,
    }
}
