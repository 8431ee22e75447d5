internal import CFuse3
internal import Primitives
internal import Synchronization

/// Requests that were read while every worker waited for the store; in order, served as soon as one is free.
///
/// The kernel bounds it: each is a system call that still waits for its answer, or one of the 256 asynchronous ones.
final class Backlog: Sendable {
    struct Item: Sendable {
        fileprivate let memory: ByteBuffer
        fileprivate let offset: Int
        /// Where it was read, and so where its reply goes.
        let descriptor: Int32
        var message: UnsafeMutableRawBufferPointer { memory.part(offset, memory.count - offset) }
    }

    private let items = Guarded<[Item]>([])
    private let count = Atomic<Int>(0)

    func put(_ message: UnsafeRawBufferPointer, from descriptor: Int32) {
        // The same place relative to a page as in `MessageBuffer`.
        let offset = 4096 - 80
        let memory = ByteBuffer(count: offset + message.count)
        memory.part(offset, message.count).copyMemory(from: message)
        items.withLock { $0.append(Item(memory: memory, offset: offset, descriptor: descriptor)) }
        count.add(1, ordering: .sequentiallyConsistent)
    }

    /// The oldest; nil, without taking the lock, when there is none.
    @inline(__always)
    func take() -> Item? {
        if count.load(ordering: .relaxed) == 0 { return nil }
        return items.withLock { items in
            if items.isEmpty { return nil }
            count.subtract(1, ordering: .relaxed)
            return items.removeFirst()
        }
    }
}

extension RequestHead {
    /// Whether serving it may call into the volume's data, and so wait for as long as a disk or a peer does. What only
    /// shows the state of the volume never does.
    func mayWaitForStore(_ message: UnsafeMutableRawBufferPointer) -> Bool {
        switch opcode {
        case FUSE_LOOKUP.rawValue:
            // The name is all that follows the header. Attributes of the volume and of snapshots are the store's.
            let name = message[MemoryLayout<fuse_in_header>.size..<length].prefix { $0 != 0 }
            return node == Node.snapshots || name.elementsEqual("volume".utf8)
        case FUSE_GETATTR.rawValue, FUSE_SETATTR.rawValue, FUSE_READ.rawValue:
            return node == Node.volume || node >= Node.firstSnapshot
        case FUSE_OPEN.rawValue, FUSE_RELEASE.rawValue: return node >= Node.firstSnapshot
        case FUSE_READDIR.rawValue: return node == Node.snapshots
        case FUSE_WRITE.rawValue, FUSE_FSYNC.rawValue, FUSE_FSYNCDIR.rawValue, FUSE_FALLOCATE.rawValue,
            FUSE_LSEEK.rawValue, FUSE_STATFS.rawValue:
            return true
        // Refused or left to the kernel, without a look at the volume.
        default: return false
        }
    }
}
