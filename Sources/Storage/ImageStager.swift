internal import HostIO
internal import Primitives

/// Gathers neighbouring blocks for one image and writes them in large pieces, in the order in which they come.
struct ImageStager {
    private let image: any File
    private let buffer = ByteBuffer(count: stageBlocks * blockSize)
    private var start: UInt64 = 0
    private var count = 0
    private(set) var writtenBytes: UInt64 = 0
    private(set) var hasChanged = false

    init(image: any File) { self.image = image }

    /// Room for up to `wanted` blocks from block `number` on; fill all that is given before the next call.
    mutating func room(at number: UInt64, wanted: Int) throws(IOError) -> UnsafeMutableRawBufferPointer {
        if count > 0 && (start + UInt64(count) != number || count == stageBlocks) { try flush() }
        if count == 0 { start = number }
        let given = min(wanted, stageBlocks - count)
        let part = buffer.part(count * blockSize, given * blockSize)
        count += given
        return part
    }

    mutating func flush() throws(IOError) {
        if count == 0 { return }
        let bytes = UnsafeRawBufferPointer(buffer.part(0, count * blockSize))
        try image.write(bytes, at: start * blockSize64)
        writtenBytes += UInt64(bytes.count)
        hasChanged = true
        count = 0
    }

    mutating func punch(_ range: BlockRange) throws(IOError) {
        try flush()
        try image.punch(offset: range.offset, count: range.byteCount)
        hasChanged = true
    }
}

/// 1 MiB.
private let stageBlocks = 256
