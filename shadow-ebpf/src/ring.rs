//! Packets on their way to the daemon.

use aya_ebpf::bindings::{
    BPF_F_MMAPABLE, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP,
};
use aya_ebpf::check_bounds_signed;
use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_ringbuf_output,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use shadow_common::{MAX_PACKET_LEN, MAX_PART_LEN, MAX_PARTS, RecordHeader, RecordKind, Ring};

use crate::frame::{self, Origin};
use crate::parse::Packet;

// Sizes stand in for the loader's.
#[map]
static REQUESTS: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

/// Octets of [`REQUESTS`]. Set by the loader.
#[unsafe(no_mangle)]
static REQUESTS_SIZE: u64 = 0;

#[map]
static REPLIES: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

#[map]
static RESPONSES: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

/// Not zero where a ring's consumer sleeps. In the daemon's memory too, so that
/// going to sleep costs no system call.
#[map]
static SLEEPING: Array<u64> = Array::with_max_entries(Ring::COUNT, BPF_F_MMAPABLE);

#[map]
static SCRATCH: PerCpuArray<Record> = PerCpuArray::with_max_entries(1, 0);

/// A record as it goes to the ring: as large as a per-CPU value may be.
#[repr(C)]
struct Record {
    header: RecordHeader,
    bytes: [u8; MAX_PART_LEN],
}

const _: () = assert!(size_of::<Record>() == 32_768);

/// Why a packet was not copied.
pub enum Lost {
    /// The ring had no room.
    RingFull,
    /// Longer than [`MAX_PACKET_LEN`].
    Oversize,
    /// Its bytes could not be read.
    Unreadable,
}

/// Octets of clients' packets that wait for the daemon.
#[inline(always)]
pub fn requests_waiting() -> u64 {
    REQUESTS.query(u64::from(BPF_RB_AVAIL_DATA))
}

/// How many there is room for.
#[inline(always)]
pub fn requests_size() -> u64 {
    // SAFETY: a valid, aligned value; read so that the compiler does not take zero for granted.
    unsafe { core::ptr::read_volatile(&raw const REQUESTS_SIZE) }
}

/// Copies the first `packet_len` bytes of a packet, from its IP header on.
///
/// When a later part does not fit, the earlier ones stay: the consumer sees that the
/// rest is missing.
#[inline(always)]
pub fn copy(
    ctx: &TcContext,
    kind: RecordKind,
    packet: &Packet,
    packet_len: u32,
) -> Result<(), Lost> {
    if packet_len as usize > MAX_PACKET_LEN {
        return Err(Lost::Oversize);
    }
    let Some(record) = SCRATCH.get_ptr_mut(0) else { return Err(Lost::Unreadable) };
    // SAFETY: the pointer is this CPU's own value, and no program of ours interrupts another.
    let record = unsafe { &mut *record };
    record.header = RecordHeader {
        // SAFETY: a helper without arguments.
        captured_at: unsafe { bpf_ktime_get_ns() },
        packet_len,
        part_offset: 0,
        part_len: 0,
        // SAFETY: `skb` is the program's context, which lives as long as this run of it.
        ifindex: unsafe { (*ctx.skb.skb).ifindex },
        // SAFETY: a helper without arguments.
        cpu: unsafe { bpf_get_smp_processor_id() },
        kind: kind as u32,
    };
    let Packet { mut origin, offset, .. } = *packet;
    let mut part_offset = 0;
    for _ in 0..MAX_PARTS {
        let part_len = i64::from(packet_len - part_offset).min(MAX_PART_LEN as i64);
        // Said to the verifier about the register that is passed on.
        if !check_bounds_signed(part_len, 1, MAX_PART_LEN as i64) {
            return Err(Lost::Unreadable);
        }
        record.header.part_offset = part_offset;
        record.header.part_len = part_len as u32;
        let bytes = record.bytes.as_mut_ptr();
        // SAFETY: `bytes` holds `MAX_PART_LEN`, which `part_len` does not exceed.
        unsafe {
            let at = offset + part_offset;
            if !frame::copy(ctx, origin, at, bytes, part_len as u32) {
                if !matches!(origin, Origin::Network) {
                    return Err(Lost::Unreadable);
                }
                origin = frame::link(ctx);
                if !frame::copy(ctx, origin, at, bytes, part_len as u32) {
                    return Err(Lost::Unreadable);
                }
            }
        }
        output(kind, record, part_len)?;
        part_offset += part_len as u32;
        if part_offset >= packet_len {
            break;
        }
    }
    Ok(())
}

/// Puts one record into the ring of its kind.
///
/// A wake-up costs 20 times the copy, so it is given only to a consumer that asks for it, and once.
#[inline(always)]
fn output(kind: RecordKind, record: &Record, part_len: i64) -> Result<(), Lost> {
    let (ring, which) = match kind {
        RecordKind::Request => (&REQUESTS, Ring::Requests),
        RecordKind::Reply => (&REPLIES, Ring::Replies),
        RecordKind::Response | RecordKind::ResponseHeaders => (&RESPONSES, Ring::Responses),
    };
    let Some(sleeping) = SLEEPING.get_ptr_mut(which as u32) else { return Err(Lost::RingFull) };
    let wake = take(sleeping);
    let flags = if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    // SAFETY: header and `part_len` bytes lie inside `record`.
    let result = unsafe {
        bpf_ringbuf_output(
            core::ptr::from_ref(ring).cast_mut().cast(),
            core::ptr::from_ref(record).cast_mut().cast(),
            (size_of::<RecordHeader>() as i64 + part_len) as u64,
            u64::from(flags),
        )
    };
    if result != 0 {
        if wake {
            // SAFETY: a map value; a lost or doubled wake-up is all that a race can do.
            unsafe { sleeping.write_volatile(1) };
        }
        return Err(Lost::RingFull);
    }
    // The consumer may have gone to sleep after the flag was read and before the record was
    // there to see. Discarding an empty record wakes it without leaving anything to read.
    if !wake && take(sleeping) {
        match ring.reserve::<u64>(0) {
            Some(empty) => empty.discard(u64::from(BPF_RB_FORCE_WAKEUP)),
            // SAFETY: as above.
            None => unsafe { sleeping.write_volatile(1) },
        }
    }
    Ok(())
}

/// Whether the consumer sleeps; if so, it is this packet that wakes it, and no other.
#[inline(always)]
fn take(sleeping: *mut u64) -> bool {
    // SAFETY: a map value, aligned; two CPUs that both find it set wake the consumer twice, no more.
    unsafe {
        if sleeping.read_volatile() == 0 {
            return false;
        }
        sleeping.write_volatile(0);
    }
    true
}
