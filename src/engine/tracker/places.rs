//! Hosts and instances as small numbers. Bounded: names come from the log.

use crate::mail::{Head, Server};

/// Names of log hosts and of mail server instances.
#[derive(Debug, Default)]
pub struct Places {
    hosts: Vec<Box<[u8]>>,
    instances: Vec<Instance>,
    pub changed: bool,
}

#[derive(Debug)]
struct Instance {
    name: Box<[u8]>,
    /// A daemon that owns a queue has logged under this name.
    has_queue: bool,
    server: Server,
}

/// More names than any server has; those beyond share the last number.
const MOST: usize = 1_024;
/// Bytes of a name that are kept: no host's and no instance's is longer, and all names are saved together.
const LONGEST: usize = 255;

fn short(name: &[u8]) -> &[u8] {
    name.get(..LONGEST).unwrap_or(name)
}

/// Equal names, byte by byte: they are short, and a call that compares them takes longer. Of two empty ones nothing is
/// read: that would be at no address, which costs a fault inside the processor on some (measured: a tenth of the time of
/// reading a log that names no host).
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().eq(other)
}

impl Places {
    pub fn host(&mut self, name: &[u8]) -> u16 {
        let name = short(name);
        if let Some(n) = self.hosts.iter().position(|host| same(host, name)) {
            return n as u16;
        }
        if self.hosts.len() < MOST {
            self.hosts.push(name.into());
            self.changed = true;
        }
        self.hosts.len() as u16 - 1
    }

    /// The number of a host, if it has one.
    pub fn known_host(&self, name: &[u8]) -> Option<u16> {
        self.hosts.iter().position(|host| same(host, short(name))).map(|n| n as u16)
    }

    pub fn instance(&mut self, head: &Head<'_>) -> u16 {
        let Head { instance, owns_queue, server, .. } = *head;
        let name = short(instance);
        if let Some(n) = self.instances.iter().position(|instance| same(&instance.name, name)) {
            if let Some(instance) = self.instances.get_mut(n)
                && owns_queue
                && !instance.has_queue
            {
                instance.has_queue = true;
                self.changed = true;
            }
            return n as u16;
        }
        if self.instances.len() < MOST {
            self.instances.push(Instance { name: name.into(), has_queue: owns_queue, server });
            self.changed = true;
        }
        self.instances.len() as u16 - 1
    }

    pub fn has_queue(&self, instance: u16) -> bool {
        self.instances.get(usize::from(instance)).is_some_and(|instance| instance.has_queue)
    }

    /// The server that runs the instance.
    pub fn server(&self, instance: u16) -> Server {
        self.instances.get(usize::from(instance)).map_or(Server::default(), |instance| instance.server)
    }

    /// The instance with a queue that was heard of last.
    pub fn last_queue(&self) -> Option<u16> {
        self.instances.iter().rposition(|instance| instance.has_queue).map(|n| n as u16)
    }

    /// The numbers of all hosts.
    pub fn hosts(&self) -> impl Iterator<Item = u16> {
        0..self.hosts.len() as u16
    }

    pub fn host_name(&self, host: u16) -> &[u8] {
        self.hosts.get(usize::from(host)).map_or(&[], |name| name)
    }

    pub fn instance_name(&self, instance: u16) -> &[u8] {
        self.instances.get(usize::from(instance)).map_or(&[], |instance| &instance.name)
    }

    pub fn save(&self, out: &mut crate::engine::codec::Writer) {
        out.u64(self.hosts.len() as u64);
        for host in &self.hosts {
            out.bytes(host);
        }
        out.u64(self.instances.len() as u64);
        for instance in &self.instances {
            out.bytes(&instance.name).u64(u64::from(instance.server.code()) << 1 | u64::from(instance.has_queue));
        }
    }

    pub fn restore(&mut self, saved: &mut crate::engine::codec::Reader<'_>) -> Option<()> {
        let mut places = Places::default();
        for _ in 0..saved.u64()?.min(MOST as u64) {
            places.hosts.push(saved.bytes()?.into());
        }
        for _ in 0..saved.u64()?.min(MOST as u64) {
            let (name, bits) = (saved.bytes()?.into(), saved.u64()?);
            let server = Server::from_code(u8::try_from(bits >> 1).ok()?)?;
            places.instances.push(Instance { name, has_queue: bits & 1 != 0, server });
        }
        *self = places;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Time;

    #[test]
    fn names_from_the_log_are_bounded_in_number_and_length() {
        let mut places = Places::default();
        for n in 0..2 * MOST {
            let name = format!("{n:08}{}", "x".repeat(60_000)).into_bytes();
            let (at, server, pid) = (Time::ZERO, Server::default(), 1);
            places.host(&name);
            places.instance(&Head { at, host: b"mx", server, instance: &name, pid, owns_queue: true });
        }
        assert_eq!((places.hosts.len(), places.instances.len()), (MOST, MOST));
        let mut out = crate::engine::codec::Writer::default();
        places.save(&mut out);
        assert!(out.bytes.len() < 2 * MOST * (LONGEST + 16), "{} bytes are saved", out.bytes.len());
        assert_eq!(places.host(&[b'0'; 300]), places.host(&[b'0'; 400]), "of one beginning");
    }
}
