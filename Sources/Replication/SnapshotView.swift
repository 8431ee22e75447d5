internal import Primitives
internal import Storage

/// A snapshot, open for reading. While it lives, the snapshot is not deleted.
final class SnapshotView: VolumeView {
    private let replica: Replica
    private let target: Replica.Target
    let size: UInt64

    init(replica: Replica, target: Replica.Target, size: UInt64) {
        self.replica = replica
        self.target = target
        self.size = size
    }

    deinit { replica.closeSnapshot(target) }

    private func check(_ offset: UInt64, _ length: UInt64) throws(StoreError) {
        if offset > size || length > size - offset { throw .outOfRange(offset: offset, length: length, size: size) }
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreError) {
        try check(offset, UInt64(buffer.count))
        try BlockReader.read(replica, target, at: offset, into: buffer)
    }

    func nextData(from offset: UInt64) throws(StoreError) -> UInt64? {
        offset >= size ? nil : try replica.nextData(target, from: offset, size: size)
    }

    func nextHole(from offset: UInt64) throws(StoreError) -> UInt64 {
        offset >= size ? size : try replica.nextHole(target, from: offset, size: size)
    }

    func extents(at offset: UInt64, length: UInt64, limit: Int) throws(StoreError) -> [MapExtent] {
        try check(offset, length)
        return length == 0 ? [] : try replica.extents(target, at: offset, length: length, limit: limit)
    }

    func allocatedBytes() throws(StoreError) -> UInt64 { try replica.allocatedBytes(target) }
}

/// Reads of any offset and length, in whole blocks underneath.
enum BlockReader {
    static func read(
        _ replica: Replica, _ target: Replica.Target, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(StoreError) {
        guard let base = buffer.baseAddress, buffer.count > 0 else { return }
        let context = replica.takeContext()
        defer { replica.giveBack(context) }
        var position = offset
        let end = offset + UInt64(buffer.count)
        while position < end {
            let block = position / blockSize64
            let skip = Int(position % blockSize64)
            let left = Int(end - position)
            let part = base + Int(position - offset)
            if skip != 0 || left < blockSize {
                try replica.read(target, block: block, count: 1, into: context.edges.base, context)
                let count = min(blockSize - skip, left)
                part.copyMemory(from: context.edges.base + skip, byteCount: count)
                position += UInt64(count)
            } else {
                let count = min(left / blockSize, IOContext.blockLimit - 1)
                try replica.read(target, block: block, count: count, into: part, context)
                position += UInt64(count * blockSize)
            }
        }
    }
}
