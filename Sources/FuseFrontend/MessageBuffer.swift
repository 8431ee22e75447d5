internal import CFuse3
internal import Primitives

/// One thread's memory for a request and its reply.
///
///     0               4016      4096                         4096 + 1 MiB
///     +--- unused ----+---------+----------------------------+
///     |               | headers | payload                    |
///     +---------------+---------+----------------------------+
///
/// A request is read in at 4016. The headers of a WRITE are 80 bytes, so its data begins at a page boundary and can be
/// handed to a file opened with O_DIRECT as it is. The payload also takes the data of a READ's reply: the request has
/// been taken apart by then, and the same pages are still in the processor's cache.
struct MessageBuffer: ~Copyable {
    /// The most bytes of one READ or WRITE.
    static let payloadLimit = 1 << 20
    private static let headerCount = MemoryLayout<fuse_in_header>.size + MemoryLayout<fuse_write_in>.size
    private static let payloadOffset = 4096

    private let memory: ByteBuffer

    init() {
        invariant(Self.headerCount == 80, "the headers of a WRITE are \(Self.headerCount) bytes")
        memory = ByteBuffer(count: Self.payloadOffset + Self.payloadLimit)
    }

    /// Where a request is read in: as many bytes as the kernel may send at once.
    var message: UnsafeMutableRawBufferPointer {
        memory.part(Self.payloadOffset - Self.headerCount, Self.headerCount + Self.payloadLimit)
    }

    /// Page-aligned.
    var payload: UnsafeMutableRawBufferPointer { memory.part(Self.payloadOffset, Self.payloadLimit) }
}

/// The head of a request, as linux/fuse.h lays it out.
struct RequestHead {
    var length: Int
    var opcode: UInt32
    var node: UInt64

    /// - Parameter message: at least a header, which the kernel guarantees.
    init(_ message: UnsafeRawBufferPointer) {
        let header = message.loadUnaligned(as: fuse_in_header.self)
        length = Int(header.len)
        opcode = header.opcode
        node = header.nodeid
    }
}
