import ArgumentParser
import Primitives
import Replication

struct SnapshotDiff: ToolCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Show where a snapshot and a later state differ.",
        discussion: """
            Without TARGET@B the present content is compared. TARGET@A..B is the same as TARGET@A TARGET@B. The formats: \
            extents, a table or with --json one document; qemu-map, as qemu-img map prints it; rbd-diff, as rbd diff does.
            """)

    @Argument(help: "The older state: TARGET@A, or both: TARGET@A..B.") var older: String
    @Argument(help: "The newer state: TARGET@B.") var newer: String?
    @Option(help: ArgumentHelp("How it is printed.", valueName: "extents|qemu-map|rbd-diff")) var format: String =
        "extents"
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let (path, from, to) = try addresses()
        guard let format = DiffFormat(rawValue: format) else {
            throw ToolError(.usage, "no format '\(printable(format))': write extents, qemu-map or rbd-diff")
        }
        let target = try context.target(path)
        let session = try target.session(.readOnly, host: context.host)
        var printer = DiffPrinter(format, isJSON: context.isJSON, target.path, from, to)
        _ = try session.call("diff", ["from": .string(from), "to": JSON(to)], progress: nil) { portion in
            for extent in portion["extents"]?.items ?? [] { printer.add(extent) }
            return false
        }
        printer.end()
        try session.close()
        return .done
    }

    private func addresses() throws(ToolError) -> (path: String, from: String, to: String?) {
        if newer == nil, let sign = older.lastIndex(of: "@"), let dots = older[sign...].range(of: "..") {
            let first = try Address(withSnapshot: String(older[..<dots.lowerBound]))
            let second = String(older[dots.upperBound...])
            try Address.checkSnapshotName(second)
            return (first.path, first.snapshot ?? "", second)
        }
        let first = try Address(withSnapshot: older)
        guard let newer else { return (first.path, first.snapshot ?? "", nil) }
        let second = try Address(newer)
        guard absolutePath(first.path) == absolutePath(second.path) else {
            throw ToolError(.usage, "\(first.path) and \(second.path) are two volumes: use 'replica-tool compare'")
        }
        return (first.path, first.snapshot ?? "", second.snapshot)
    }
}

extension StringProtocol {
    /// Where `text` stands first.
    func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}

enum DiffFormat: String { case extents, qemuMap = "qemu-map", rbdDiff = "rbd-diff" }

/// Prints differences as they come, so that a long list needs no memory.
struct DiffPrinter {
    private let format: DiffFormat
    private let isJSON: Bool
    private let head: JSON
    private var count = 0
    private var bytes: UInt64 = 0

    init(_ format: DiffFormat, isJSON: Bool, _ path: String, _ from: String, _ to: String?) {
        self.format = format
        self.isJSON = isJSON
        head = ["volume": .string(path), "from": .string(from), "to": JSON(to)]
    }

    /// The heading waits for the first result, so that an error stands alone.
    private func begin() {
        if count > 0 { return }
        switch (format, isJSON) {
        case (.qemuMap, _), (.rbdDiff, true): Output.write("[")
        case (.rbdDiff, false): Output.line("Offset Length Type")
        case (.extents, true): Output.write(JSON.document(head).description.dropLast() + ",\"extents\":[")
        case (.extents, false): Output.line(row("START", "LENGTH", "TYPE"))
        }
    }

    mutating func add(_ extent: JSON) {
        let start = extent["start"]?.count ?? 0
        let length = extent["length"]?.count ?? 0
        let exists = extent["exists"]?.flag ?? true
        begin()
        let separator = count == 0 ? "\n" : ",\n"
        count += 1
        bytes += length
        switch (format, isJSON) {
        case (.qemuMap, _):
            let item: JSON = [
                "start": JSON(start), "length": JSON(length), "depth": 0, "present": .bool(exists),
                "zero": .bool(!exists), "data": .bool(exists),
            ]
            Output.write(separator + item.description)
        case (.rbdDiff, true):
            // rbd itself writes this truth as a text.
            let item: JSON = ["offset": JSON(start), "length": JSON(length), "exists": exists ? "true" : "false"]
            Output.write(separator + item.description)
        case (.rbdDiff, false): Output.line("\(start) \(length) \(exists ? "data" : "zero")")
        case (.extents, true): Output.write(separator + extent.description)
        case (.extents, false): Output.line(row(String(start), String(length), exists ? "data" : "zero"))
        }
    }

    func end() {
        begin()
        switch (format, isJSON) {
        case (.qemuMap, _), (.rbdDiff, true): Output.line("\n]")
        case (.rbdDiff, false): break
        case (.extents, true): Output.line("\n],\"changed_bytes\":\(bytes)}")
        case (.extents, false): break
        }
    }

    private func row(_ start: String, _ length: String, _ type: String) -> String {
        func right(_ text: String) -> String { String(repeating: " ", count: max(0, 16 - text.count)) + text }
        return right(start) + " " + right(length) + "  " + type
    }
}
