//! How much memory there is, as far as Linux tells.

use std::fs::read_to_string;
use std::path::Path;

/// Bytes that this process can still take: what the machine has left, within the limits of its control groups and of its
/// address space (`ulimit -v`). `None` where that is unknown.
pub(crate) fn available() -> Option<u64> {
    [machine(), control_group(), address_space()].into_iter().flatten().min()
}

/// `MemAvailable`, which counts caches that the system gives up.
fn machine() -> Option<u64> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(first_number(line)? * 1024)
}

/// The least that a group of this process, or one above it, has left. Its file cache counts as left.
fn control_group() -> Option<u64> {
    let groups = read_to_string("/proc/self/cgroup").ok()?;
    let unified = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let v1 = groups.lines().find_map(|line| line.split_once(":memory:/").map(|(_, group)| group));
    let least = |root: &str, group: &str, files: [&str; 2]| {
        let own = Path::new(root).join(group);
        own.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(|g| left(g, files)).min()
    };
    let v2 = unified.and_then(|group| least("/sys/fs/cgroup", group, ["memory.max", "memory.current"]));
    let v1_files = ["memory.limit_in_bytes", "memory.usage_in_bytes"];
    v2.or_else(|| v1.and_then(|group| least("/sys/fs/cgroup/memory", group, v1_files)))
}

fn left(group: &Path, [limit, usage]: [&str; 2]) -> Option<u64> {
    let number = |file: &str| first_number(&read_to_string(group.join(file)).ok()?);
    let statistics = read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached = statistics.lines().find_map(|line| first_number(line.strip_prefix("inactive_file ")?));
    let used = number(usage)?.saturating_sub(cached.unwrap_or(0));
    Some(number(limit)?.saturating_sub(used))
}

/// The limit of the address space less what is mapped.
fn address_space() -> Option<u64> {
    let limits = read_to_string("/proc/self/limits").ok()?;
    let limit = first_number(limits.lines().find_map(|line| line.strip_prefix("Max address space"))?)?;
    let status = read_to_string("/proc/self/status").ok()?;
    let mapped = status.lines().find_map(|line| first_number(line.strip_prefix("VmSize:")?))? * 1024;
    Some(limit.saturating_sub(mapped))
}

/// `None` for `max` and `unlimited`.
fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_tells() {
        let available = available().unwrap();
        assert!(available > 1 << 20, "{available}");
        let total = first_number(read_to_string("/proc/meminfo").unwrap().strip_prefix("MemTotal:").unwrap());
        assert!(available <= total.unwrap() * 1024);
        assert_eq!(
            (first_number("  unlimited  "), first_number("max"), first_number(" 12 kB")),
            (None, None, Some(12))
        );
    }
}
