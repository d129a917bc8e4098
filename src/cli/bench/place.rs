//! Where the store is measured: the kind of file system, and what a sync costs there, which bounds every figure.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use super::report::percentile;

/// How often a sync is timed.
const SYNCS: usize = 40;
/// A sync is timed over so much: a small commit.
const SYNC_BYTES: usize = 4 << 10;

/// What is known of a folder's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// As the kernel calls it; `None` where there is no `/proc`.
    pub(super) file_system: Option<String>,
    /// The median time of appending a little and syncing it.
    pub(super) sync_micros: u32,
}

impl Place {
    /// Looks at the folder, and writes and removes a file there.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok();
        let file_system = mounts.and_then(|mounts| file_system(&mounts, &folder));
        Ok(Self { file_system, sync_micros: sync_micros(&folder)? })
    }
}

fn sync_micros(folder: &Path) -> io::Result<u32> {
    let path = folder.join("sync");
    let mut file = File::create_new(&path)?;
    let mut micros = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[b'x'; SYNC_BYTES])?;
        file.sync_data()?;
        micros.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    std::fs::remove_file(path)?;
    micros.sort_unstable();
    Ok(percentile(&micros, 500))
}

/// The file system of `folder` by a table of mounts (proc(5)): that of the longest mount point above it; of two at one
/// place the later hides the earlier.
fn file_system(mounts: &str, folder: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.replace("\\040", " "), words.next()?))
    });
    let above = mounts.filter(|(point, _)| folder.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_says_the_file_system() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/my\\040disk xfs rw 0 0\n\
                      none /mnt ramfs rw 0 0\n/dev/vdc /mnt btrfs rw 0 0\n";
        for (folder, kind) in
            [("/var/lib", "ext4"), ("/tmp/a", "tmpfs"), ("/tmpx", "ext4"), ("/tmp/my disk/a", "xfs"), ("/mnt", "btrfs")]
        {
            assert_eq!(file_system(mounts, Path::new(folder)).as_deref(), Some(kind), "{folder}");
        }
        assert_eq!(file_system("", Path::new("/")), None);
    }
}
