import ArgumentParser
import Primitives
import Replication

struct Compare: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare two volumes, replicas, snapshots or raw files byte by byte.",
        discussion:
            "Exit code 0: the same; 1: they differ, and the first differing ranges are shown; 2: it could not be found out."
    )

    @Argument(help: "One of the two.") var first: String
    @Argument(help: "The other one.") var second: String
    @OptionGroup var globals: Globals

    private static let rangesShown = 10

    func execute(_ context: Context) throws(ToolError) -> Exit {
        do throws(ToolError) {
            return try compare(context)
        } catch {
            // Here 1 means "they differ", so every error but an interrupt is 2.
            if error.exit == .interrupted { throw error }
            throw ToolError(.damage, error.message)
        }
    }

    private func compare(_ context: Context) throws(ToolError) -> Exit {
        let a = try openContent(first, context)
        defer { a.close() }
        // A volume that is not mounted has one owner at a time: a second look at it goes through the first.
        let b = try openSecond(context, a)
        defer { b.close() }
        var ranges: [(start: UInt64, length: UInt64)] = []
        let common = min(a.size, b.size)
        try withProgress("compare", context) { meter throws(ToolError) in
            let left = ByteBuffer(count: contentChunk)
            let right = ByteBuffer(count: contentChunk)
            var offset: UInt64 = 0
            while offset < common, ranges.count <= Compare.rangesShown {
                let one = try a.run(at: offset)
                let two = try b.run(at: offset)
                var end = min(common, offset + min(one.length, two.length))
                if one.isData || two.isData {
                    end = min(end, offset + UInt64(contentChunk))
                    let count = Int(end - offset)
                    try a.read(at: offset, into: left.part(0, count))
                    try b.read(at: offset, into: right.part(0, count))
                    note(left.part(0, count), right.part(0, count), at: offset, &ranges)
                }
                offset = end
                if meter.update(done: offset, total: common) { throw ToolError(.interrupted, "interrupted") }
            }
        }
        let isSame = ranges.isEmpty && a.size == b.size
        show(a, b, ranges, isSame, context)
        return isSame ? .done : .failed
    }

    private func openSecond(_ context: Context, _ first: any ContentSource) throws(ToolError) -> any ContentSource {
        let address = try Address(second)
        if let other = first as? SessionSource, isDirectory(address.path), other.path == absolutePath(address.path) {
            return try other.sibling(snapshot: address.snapshot)
        }
        return try openContent(second, context)
    }

    /// Adds the blocks that differ, neighbours as one range.
    private func note(
        _ left: UnsafeMutableRawBufferPointer, _ right: UnsafeMutableRawBufferPointer, at offset: UInt64,
        _ ranges: inout [(start: UInt64, length: UInt64)]
    ) {
        var position = 0
        while position < left.count {
            let count = min(blockSize, left.count - position)
            let isSame = left[position..<position + count].elementsEqual(right[position..<position + count])
            if !isSame {
                let start = offset + UInt64(position)
                if let last = ranges.last, last.start + last.length == start {
                    ranges[ranges.count - 1].length += UInt64(count)
                } else {
                    ranges.append((start, UInt64(count)))
                }
            }
            position += count
        }
    }

    private func show(
        _ a: any ContentSource, _ b: any ContentSource, _ ranges: [(start: UInt64, length: UInt64)], _ isSame: Bool,
        _ context: Context
    ) {
        let shown = ranges.prefix(Compare.rangesShown)
        if context.isJSON {
            Output.message(
                "summary",
                [
                    "same": .bool(isSame), "first": .string(a.name), "second": .string(b.name),
                    "first_size": JSON(a.size),
                    "second_size": JSON(b.size),
                    "differences": .array(shown.map { ["start": JSON($0.start), "length": JSON($0.length)] }),
                    "more_differences": .bool(ranges.count > Compare.rangesShown),
                ])
            return
        }
        if isSame {
            if !context.settings.isQuiet {
                Output.line("\(a.name) and \(b.name) are the same: \(SizeText.human(a.size))")
            }
            return
        }
        if a.size != b.size { Output.line("sizes differ: \(a.name) has \(a.size) bytes, \(b.name) \(b.size)") }
        for range in shown { Output.line("differs: \(range.length) bytes at \(range.start)") }
        if ranges.count > Compare.rangesShown { Output.line("and more behind that") }
    }
}
