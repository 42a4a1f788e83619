//! The messages between a process and `quire`, one per packet.
//!
//! A packet is a tag byte and its fields, little-endian, without padding; both ends are of one build, so
//! there are no versions but the build id in the first message. Nothing here allocates.

use super::ledger::AccountId;
use super::outside::Outside;

/// The longest packet, in bytes.
pub const PACKET_BYTES: usize = 1024;
/// The longest line of text that one message carries, in bytes; longer ones are cut.
pub const LINE_BYTES: usize = PACKET_BYTES - 3;
/// The longest name of a policy, in bytes.
pub const POLICY_BYTES: usize = 64;

/// The first message of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The build of the library: [`build_number`](super::build_id::build_number).
    pub build: u64,
    /// The process, as it sees itself.
    pub pid: u32,
    /// Its parent, as it sees it.
    pub ppid: u32,
    /// Its memory is the kernel's until it is woken.
    pub asleep: bool,
    /// In a process made by fork without exec: its parent's account.
    pub forked_from: Option<AccountId>,
}

/// What a process says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// The first message.
    Hello(Hello),
    /// Carries the process's userfaultfd, of which `quire` keeps a copy until the process ends.
    Descriptor,
    /// Asks for `/dev/userfaultfd`, which it may not open itself, before the first message or instead of it. Answered by
    /// [`Reply::Device`] or [`Reply::NoDevice`].
    Device,
    /// Asks for a spill file. Answered by [`Reply::Spill`] or [`Reply::NoSpill`].
    NeedSpill,
    /// Its demand is unmet: the grants should be divided anew.
    Want,
    /// It is about to fork: its spill files must stay for the child, even if it ends first.
    ForkBegins,
    /// The fork it announced failed.
    ForkFailed,
    /// A line of UTF-8 text for the user, without newline.
    Line(&'a str),
    /// It has woken.
    Awake,
    /// It sleeps, has just mapped more than there is headroom for, and is to be woken. On a connection of its own.
    Short,
    /// It ends in order; nothing more will come.
    Bye,
    /// It runs on outside the budget; nothing more will come.
    Outside {
        /// Why.
        cause: Outside,
        /// The program, as it was named.
        name: &'a [u8],
    },
}

/// How a process is to work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// Its account in the ledger.
    pub account: AccountId,
    /// Whether it may evict. False without a budget, and in a child of fork without exec.
    pub evict: bool,
    /// Whether there is somewhere to spill to.
    pub spill: bool,
    /// Spill files that follow in [`Reply::Files`]: all that the parent had, with the same numbers.
    pub files: u16,
    /// The budget in pages, or [`NO_LIMIT`](super::ledger::NO_LIMIT).
    pub budget_pages: u64,
    /// The machine's memory in pages.
    pub machine_pages: u64,
    /// How often to find out what is accessed, in ns; 0: nothing is recorded. If it or `log` is set, a ring for notes
    /// comes with the ledger.
    pub record_every_ns: u64,
    /// Whether to tell what the engine decides.
    pub log: bool,
    /// Whether to measure where the time of faults goes.
    pub profile: bool,
    /// The policy.
    pub policy: PolicyName,
}

/// The name of a policy: `adaptive`, `fixed:64K`, `linux:16K,2M`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyName {
    bytes: [u8; POLICY_BYTES],
    len: u8,
}

impl PolicyName {
    /// `None` when it is longer than [`POLICY_BYTES`].
    pub fn new(name: &str) -> Option<PolicyName> {
        let mut bytes = [0; POLICY_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(PolicyName { bytes, len: name.len() as u8 })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// Why a process is not taken in. It goes on unmanaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum JoinRefusal {
    /// The library is of another build than `quire`.
    OtherBuild = 1,
    /// All accounts are used.
    TooManyProcesses = 2,
    /// The parent that a forked child named is not known.
    UnknownParent = 3,
    /// The message was not one of this protocol.
    Malformed = 4,
}

/// What `quire` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Carries the ledger, and a ring for notes if there are to be any.
    Welcome(Welcome),
    /// Carries spill files of the parent, from number `first` up, one descriptor each.
    Files {
        /// The number of the first file in this packet.
        first: u16,
    },
    /// Carries a new spill file for this process alone.
    Spill {
        /// The number of the file among those of this process.
        file: u16,
    },
    /// There is no spill file to be had, for good.
    NoSpill,
    /// The process is to wake.
    Wake,
    /// Carries `/dev/userfaultfd`.
    Device,
    /// `quire` has no `/dev/userfaultfd` either.
    NoDevice,
    /// The process is not taken in.
    Refuse(JoinRefusal),
}

/// The packet is not one of this protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// A packet to send.
#[derive(Clone, Debug)]
pub struct Packet {
    bytes: [u8; PACKET_BYTES],
    len: usize,
}

impl Packet {
    fn new(tag: u8) -> Packet {
        let mut packet = Packet { bytes: [0; PACKET_BYTES], len: 0 };
        packet.put(&[tag]);
        packet
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn put_account(&mut self, account: AccountId) {
        self.put(&account.index.to_le_bytes());
        self.put(&account.generation.to_le_bytes());
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Request<'_> {
    /// As a packet.
    pub fn encode(&self) -> Packet {
        match self {
            Request::Hello(hello) => {
                let mut packet = Packet::new(1);
                packet.put(&hello.build.to_le_bytes());
                packet.put(&hello.pid.to_le_bytes());
                packet.put(&hello.ppid.to_le_bytes());
                packet.put(&[u8::from(hello.asleep)]);
                if let Some(parent) = hello.forked_from {
                    packet.put_account(parent);
                }
                packet
            }
            Request::Descriptor => Packet::new(2),
            Request::NeedSpill => Packet::new(3),
            Request::Want => Packet::new(4),
            Request::ForkBegins => Packet::new(5),
            Request::ForkFailed => Packet::new(6),
            Request::Line(text) => {
                let mut packet = Packet::new(7);
                packet.put(cut(text, LINE_BYTES).as_bytes());
                packet
            }
            Request::Bye => Packet::new(8),
            Request::Awake => Packet::new(10),
            Request::Device => Packet::new(11),
            Request::Short => Packet::new(12),
            Request::Outside { cause, name } => {
                let mut packet = Packet::new(9);
                packet.put(&[*cause as u8]);
                packet.put(&name[name.len().saturating_sub(LINE_BYTES)..]);
                packet
            }
        }
    }

    /// From the bytes of a packet.
    pub fn decode(bytes: &[u8]) -> Result<Request<'_>, Malformed> {
        let mut fields = Fields(bytes);
        let request = match fields.byte()? {
            1 => Request::Hello(Hello {
                build: fields.long()?,
                pid: fields.word()?,
                ppid: fields.word()?,
                asleep: fields.byte()? != 0,
                forked_from: if fields.0.is_empty() { None } else { Some(fields.account()?) },
            }),
            2 => Request::Descriptor,
            3 => Request::NeedSpill,
            4 => Request::Want,
            5 => Request::ForkBegins,
            6 => Request::ForkFailed,
            7 => Request::Line(core::str::from_utf8(core::mem::take(&mut fields.0)).map_err(|_| Malformed)?),
            8 => Request::Bye,
            10 => Request::Awake,
            11 => Request::Device,
            12 => Request::Short,
            9 => Request::Outside {
                cause: Outside::from_number(fields.byte()?).ok_or(Malformed)?,
                name: core::mem::take(&mut fields.0),
            },
            _ => return Err(Malformed),
        };
        fields.end(request)
    }
}

impl Reply {
    /// As a packet.
    pub fn encode(&self) -> Packet {
        match self {
            Reply::Welcome(welcome) => {
                let mut packet = Packet::new(1);
                packet.put_account(welcome.account);
                packet.put(&[u8::from(welcome.evict), u8::from(welcome.spill)]);
                packet.put(&welcome.files.to_le_bytes());
                packet.put(&welcome.budget_pages.to_le_bytes());
                packet.put(&welcome.machine_pages.to_le_bytes());
                packet.put(&welcome.record_every_ns.to_le_bytes());
                packet.put(&[u8::from(welcome.log), u8::from(welcome.profile)]);
                packet.put(welcome.policy.as_str().as_bytes());
                packet
            }
            Reply::Files { first } => {
                let mut packet = Packet::new(2);
                packet.put(&first.to_le_bytes());
                packet
            }
            Reply::Spill { file } => {
                let mut packet = Packet::new(3);
                packet.put(&file.to_le_bytes());
                packet
            }
            Reply::NoSpill => Packet::new(4),
            Reply::Wake => Packet::new(6),
            Reply::Device => Packet::new(7),
            Reply::NoDevice => Packet::new(8),
            Reply::Refuse(reason) => {
                let mut packet = Packet::new(5);
                packet.put(&[*reason as u8]);
                packet
            }
        }
    }

    /// From the bytes of a packet.
    pub fn decode(bytes: &[u8]) -> Result<Reply, Malformed> {
        let mut fields = Fields(bytes);
        let reply = match fields.byte()? {
            1 => Reply::Welcome(Welcome {
                account: fields.account()?,
                evict: fields.byte()? != 0,
                spill: fields.byte()? != 0,
                files: fields.short()?,
                budget_pages: fields.long()?,
                machine_pages: fields.long()?,
                record_every_ns: fields.long()?,
                log: fields.byte()? != 0,
                profile: fields.byte()? != 0,
                policy: fields.policy()?,
            }),
            2 => Reply::Files { first: fields.short()? },
            3 => Reply::Spill { file: fields.short()? },
            4 => Reply::NoSpill,
            6 => Reply::Wake,
            7 => Reply::Device,
            8 => Reply::NoDevice,
            5 => Reply::Refuse(match fields.byte()? {
                1 => JoinRefusal::OtherBuild,
                2 => JoinRefusal::TooManyProcesses,
                3 => JoinRefusal::UnknownParent,
                4 => JoinRefusal::Malformed,
                _ => return Err(Malformed),
            }),
            _ => return Err(Malformed),
        };
        fields.end(reply)
    }
}

/// The longest start of `text` with at most `most` bytes that ends between characters.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The part of a packet that was not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*field)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take::<1>()?[0])
    }

    fn short(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_le_bytes)
    }

    fn word(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    fn account(&mut self) -> Result<AccountId, Malformed> {
        Ok(AccountId { index: self.word()?, generation: self.word()? })
    }

    fn policy(&mut self) -> Result<PolicyName, Malformed> {
        let name = core::str::from_utf8(core::mem::take(&mut self.0)).map_err(|_| Malformed)?;
        PolicyName::new(name).ok_or(Malformed)
    }

    /// `value`, if nothing is left over.
    fn end<T>(self, value: T) -> Result<T, Malformed> {
        if self.0.is_empty() { Ok(value) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: AccountId = AccountId { index: 1023, generation: 9 };

    fn requests() -> [Request<'static>; 12] {
        let hello =
            Hello { build: 0x0123_4567_89ab_cdef, pid: 42, ppid: 1, asleep: false, forked_from: None };
        [
            Request::Hello(hello),
            Request::Hello(Hello { forked_from: Some(ACCOUNT), ..hello }),
            Request::Hello(Hello { asleep: true, ..hello }),
            Request::Awake,
            Request::Descriptor,
            Request::NeedSpill,
            Request::Want,
            Request::ForkBegins,
            Request::ForkFailed,
            Request::Line("naïve text"),
            Request::Bye,
            Request::Outside { cause: Outside::Excluded, name: b"/usr/bin/tool" },
        ]
    }

    fn replies() -> [Reply; 7] {
        let policy = PolicyName::new("fixed:64K").unwrap();
        let welcome = Welcome {
            account: ACCOUNT,
            evict: true,
            spill: false,
            files: 300,
            budget_pages: u64::MAX,
            machine_pages: 5,
            record_every_ns: 10_000_000,
            log: true,
            profile: false,
            policy,
        };
        [
            Reply::Welcome(welcome),
            Reply::Files { first: 64 },
            Reply::Spill { file: 2 },
            Reply::NoSpill,
            Reply::Wake,
            Reply::Refuse(JoinRefusal::OtherBuild),
            Reply::Refuse(JoinRefusal::Malformed),
        ]
    }

    #[test]
    fn every_message_survives_the_wire() {
        for request in requests() {
            assert_eq!(Request::decode(request.encode().as_bytes()), Ok(request));
        }
        for reply in replies() {
            assert_eq!(Reply::decode(reply.encode().as_bytes()), Ok(reply));
        }
    }

    #[test]
    fn a_packet_cut_short_or_too_long_is_refused() {
        for request in requests() {
            let packet = request.encode();
            let mut longer = packet.as_bytes().to_vec();
            longer.push(0);
            match request {
                // Any end of the text is a text.
                Request::Line(_) | Request::Outside { .. } => continue,
                Request::Hello(Hello { forked_from: None, .. }) => {}
                _ => assert_eq!(Request::decode(&longer), Err(Malformed)),
            }
            assert_eq!(Request::decode(&packet.as_bytes()[..packet.as_bytes().len() - 1]), Err(Malformed));
        }
        assert_eq!(Reply::decode(&[]), Err(Malformed));
        assert_eq!(Reply::decode(&[77]), Err(Malformed));
        assert_eq!(Reply::decode(&[1, 2, 3]), Err(Malformed));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = "ä".repeat(PACKET_BYTES);
        let packet = Request::Line(&text).encode();
        let Ok(Request::Line(line)) = Request::decode(packet.as_bytes()) else { panic!("not a line") };
        assert!(line.len() > LINE_BYTES - 4 && line.chars().all(|char| char == 'ä'));
        assert_eq!(PolicyName::new(&text), None);
    }
}
