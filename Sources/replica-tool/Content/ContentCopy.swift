import Primitives
import Replication
import Storage

/// Copies content run by run: holes and zeros are passed over, or made.
enum ContentCopy {
    /// Makes the head of a volume the source's content, and zeros behind it; durable when it returns.
    /// - Parameter isEmpty: whether the volume is known to hold nothing, so that zeros need no work.
    static func fill(
        _ target: Target, from source: any ContentSource, isEmpty: Bool, _ context: Context
    ) throws(ToolError) {
        let session = try target.exclusiveSession(.readWrite, host: context.host, "import into")
        let engine = session.engine
        let what = "cannot write \(target.path)"
        do throws(ToolError) {
            guard source.size <= engine.size else {
                throw ToolError(
                    .usage,
                    "\(source.name) has \(SizeText.human(source.size)), \(target.path) only \(SizeText.human(engine.size)): resize it first"
                )
            }
            func clear(_ offset: UInt64, _ length: UInt64) throws(ToolError) {
                if isEmpty || length == 0 { return }
                try during(what) { () throws(StoreError) in
                    try engine.empty(at: offset, length: length, .discard, durability: .ordinary)
                }
            }
            try withProgress("import", context) { meter throws(ToolError) in
                try each(source, meter) { offset, bytes throws(ToolError) in
                    try during(what) { () throws(StoreError) in
                        try engine.write(bytes, at: offset, durability: .ordinary)
                    }
                } hole: { offset, length throws(ToolError) in
                    try clear(offset, length)
                }
                try clear(source.size, engine.size - source.size)
                try during(what, engine.flush)
            }
        } catch {
            try? session.close()
            throw error
        }
        try session.close()
    }

    /// Walks the source in order: its data in pieces of at most a chunk, its holes and zeros in between.
    static func each(
        _ source: any ContentSource, _ meter: ProgressMeter,
        data: (UInt64, UnsafeRawBufferPointer) throws(ToolError) -> Void,
        hole: (UInt64, UInt64) throws(ToolError) -> Void
    ) throws(ToolError) {
        let buffer = ByteBuffer(count: contentChunk)
        var offset: UInt64 = 0
        while offset < source.size {
            let run = try source.run(at: offset)
            let end = min(source.size, offset + run.length)
            if !run.isData {
                try hole(offset, end - offset)
                offset = end
            }
            while offset < end {
                // Chunks end on their own multiples, so that writes are aligned wherever the data starts.
                let chunkEnd = min(end, roundedDown(offset, to: UInt64(contentChunk)) + UInt64(contentChunk))
                let part = buffer.part(0, Int(chunkEnd - offset))
                try source.read(at: offset, into: part)
                try split(UnsafeRawBufferPointer(part), at: offset, data: data, hole: hole)
                offset = chunkEnd
                if meter.update(done: offset, total: source.size) { throw ToolError(.interrupted, "interrupted") }
            }
            if meter.update(done: offset, total: source.size) { throw ToolError(.interrupted, "interrupted") }
        }
    }

    /// Tells blocks of zeros from data, whatever the source called them.
    private static func split(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64,
        data: (UInt64, UnsafeRawBufferPointer) throws(ToolError) -> Void,
        hole: (UInt64, UInt64) throws(ToolError) -> Void
    ) throws(ToolError) {
        func isZero(_ position: Int) -> Bool {
            UnsafeRawBufferPointer(rebasing: bytes[position..<min(bytes.count, position + blockSize)]).isZero
        }
        var start = 0
        while start < bytes.count {
            let isHole = isZero(start)
            var end = start + blockSize
            while end < bytes.count, isZero(end) == isHole { end += blockSize }
            end = min(end, bytes.count)
            if isHole {
                try hole(offset + UInt64(start), UInt64(end - start))
            } else {
                try data(offset + UInt64(start), UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
            }
            start = end
        }
    }
}
