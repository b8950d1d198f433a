//! What memory the process takes.

use std::fmt;

/// Bytes of this process in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// At most, until now.
    pub peak: u64,
}

impl Memory {
    /// What the system says; `None` where it has no `/proc`.
    pub fn now() -> Option<Self> {
        Self::read(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    fn read(status: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kibibytes * 1_024)
        };
        Some(Self { resident: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (resident, peak) = (mebibytes(self.resident), mebibytes(self.peak));
        write!(f, "{resident:.1} MiB resident, {peak:.1} MiB at most")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_from_the_status_of_the_process() {
        let memory =
            Memory::read("Name:\tload\nVmHWM:\t    4096 kB\nVmRSS:\t    1536 kB\n").unwrap();
        assert_eq!(memory.to_string(), "1.5 MiB resident, 4.0 MiB at most");
        assert_eq!(Memory::read("Name:\tload\n"), None);
    }
}
