//! What the kernel says of caches and cores, and pinning the calling thread to some of them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// Assumed where the kernel does not describe the caches (some virtual machines).
const LAST_LEVEL_DEFAULT_BYTES: usize = 32 << 20;
const SECOND_LEVEL_DEFAULT_BYTES: usize = 256 << 10;

/// Cache sizes that matter to the working sets of the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Of one core.
    pub second_level_bytes: usize,
    /// Sum over the distinct last-level caches of the cores asked for.
    pub last_level_bytes: usize,
}

/// The caches that `cpus` see, from the tree at `root` (`/` on a machine, a copy in a test).
#[must_use]
pub fn caches(root: &Path, cpus: &[usize]) -> Caches {
    let mut last: BTreeSet<(String, usize)> = BTreeSet::new();
    let mut second = None;
    for cpu in cpus {
        let found = caches_of(root, *cpu);
        let level = |wanted: u32| found.iter().find(|cache| cache.level == wanted);
        if let Some(cache) = level(2) {
            second = Some(second.map_or(cache.bytes, |bytes: usize| bytes.min(cache.bytes)));
        }
        if let Some(cache) = found.iter().max_by_key(|cache| cache.level) {
            last.insert((cache.shared_by.clone(), cache.bytes));
        }
    }
    let total: usize = last.iter().map(|(_, bytes)| bytes).sum();
    Caches {
        second_level_bytes: second.unwrap_or(SECOND_LEVEL_DEFAULT_BYTES),
        last_level_bytes: if total == 0 { LAST_LEVEL_DEFAULT_BYTES } else { total },
    }
}

struct Cache {
    level: u32,
    bytes: usize,
    shared_by: String,
}

fn caches_of(root: &Path, cpu: usize) -> Vec<Cache> {
    let folder = root.join(format!("sys/devices/system/cpu/cpu{cpu}/cache"));
    let read = |index: usize, name: &str| {
        fs::read_to_string(folder.join(format!("index{index}/{name}")))
            .map(|text| text.trim().to_owned())
            .ok()
    };
    (0..INDICES_MAX)
        .filter_map(|index| {
            Some(Cache {
                level: read(index, "level")?.parse().ok()?,
                bytes: parse_size(&read(index, "size")?)?,
                shared_by: read(index, "shared_cpu_list")?,
            })
        })
        .collect()
}

/// Cache indices looked at per core; no machine has had more than four.
const INDICES_MAX: usize = 8;

/// `32K`, `1024K` or `12M` in bytes.
fn parse_size(text: &str) -> Option<usize> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    digits.parse::<usize>().ok().map(|size| size << shift)
}

/// Confines the calling thread to `cpus`; an empty list leaves it as it is.
///
/// # Errors
/// The kernel refuses: a core that does not exist or lies outside the container's set.
pub fn pin(cpus: &[usize]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    // SAFETY: all-zero bytes are an empty `cpu_set_t`.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        if *cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("core {cpu}")));
        }
        // SAFETY: `cpu` is below CPU_SETSIZE, checked above.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: thread 0 is the calling one; the set is initialised and of the size given.
    let status = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cores that the calling thread may run on, ascending; core 0 where the kernel does not say.
#[must_use]
pub fn allowed() -> Vec<usize> {
    // SAFETY: all-zero bytes are an empty `cpu_set_t`.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: thread 0 is the calling one; the set is writable and of the size given.
    let status = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if status != 0 {
        return vec![0];
    }
    // SAFETY: every index is below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plant(root: &Path, cpu: usize, index: usize, facts: [&str; 3]) {
        let folder = root.join(format!("sys/devices/system/cpu/cpu{cpu}/cache/index{index}"));
        fs::create_dir_all(&folder).unwrap();
        for (name, value) in ["level", "size", "shared_cpu_list"].iter().zip(facts) {
            fs::write(folder.join(name), format!("{value}\n")).unwrap();
        }
    }

    #[test]
    fn each_last_level_cache_is_counted_once() {
        let root = std::env::temp_dir().join(format!("swarmbench-caches-{}", std::process::id()));
        for cpu in 0..4 {
            let half = if cpu < 2 { "0-1" } else { "2-3" };
            plant(&root, cpu, 0, ["1", "48K", &cpu.to_string()]);
            plant(&root, cpu, 1, ["1", "32K", &cpu.to_string()]);
            plant(&root, cpu, 2, ["2", "1024K", &cpu.to_string()]);
            plant(&root, cpu, 3, ["3", "32M", half]);
        }
        let all = caches(&root, &[0, 1, 2, 3]);
        let one = caches(&root, &[1]);
        let none = caches(&root, &[9]);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(all, Caches { second_level_bytes: 1 << 20, last_level_bytes: 64 << 20 });
        assert_eq!(one.last_level_bytes, 32 << 20);
        assert_eq!(none.last_level_bytes, LAST_LEVEL_DEFAULT_BYTES);
    }

    #[test]
    fn a_pinned_thread_is_allowed_its_core_alone() {
        let first = allowed()[0];
        let seen = std::thread::spawn(move || pin(&[first]).map(|()| allowed()));
        assert_eq!(seen.join().unwrap().unwrap(), [first]);
        assert!(pin(&[libc::CPU_SETSIZE as usize]).is_err());
    }
}
