//! What a network card does to data that is longer than a segment: TCP segmentation offload.

use shadow_engine::Transmit;
use shadow_engine::client::Outgoing;
use shadow_engine::wire::{Packet, Segment, emit};

/// Hands on each of the segments, with its data.
pub fn cut<'a>(outgoing: &Outgoing<'a>, mut each: impl FnMut(Segment<'a>, &[u8])) {
    let data = outgoing.payload.concat();
    let size = outgoing.segment_size.max(1) as usize;
    let count = data.len().div_ceil(size).max(1);
    assert_eq!(outgoing.segments(), count);
    for number in 0..count {
        let mut segment = outgoing.segment;
        let (start, end) = (number * size, ((number + 1) * size).min(data.len()));
        segment.seq += start as u32;
        if number + 1 < count {
            assert!(!segment.flags.syn && !segment.flags.rst, "cut up: {:?}", segment.flags);
            (segment.flags.psh, segment.flags.fin) = (false, false);
        }
        each(segment, &data[start.min(end)..end]);
    }
}

/// The same for a packet whose checksum is partial; the packets that it becomes.
pub fn packets(bytes: &[u8], transmit: Transmit) -> Vec<Vec<u8>> {
    let packet = Packet::parse(bytes).expect("the engine's own");
    let Packet { source, destination, segment, .. } = packet;
    let mut packets = Vec::new();
    let outgoing = Outgoing {
        segment: Segment { payload: &[], ..segment },
        payload: [segment.payload, &[]],
        segment_size: transmit.segment_size,
    };
    cut(&outgoing, |segment, data| {
        let mut packet = Vec::new();
        emit(source, destination, &segment, [data, &[]], &mut packet);
        packets.push(packet);
    });
    assert_eq!(packets.len(), transmit.packets as usize);
    packets
}
