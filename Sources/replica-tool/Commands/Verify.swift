import ArgumentParser
import Primitives
import Replication

struct Verify: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check every block of every layer, and all metadata.",
        discussion: """
            Also while it is mounted and in use. Exit code 0: all is well; 2: content is damaged, and each finding names \
            the file, the bytes and the snapshot; 3: nothing is damaged, but something is worth knowing.
            """)

    @Argument(help: "A volume or a replica.") var target: String
    @Flag(help: "Metadata only; no block is read.") var quick = false
    @Option(help: ArgumentHelp("Read at most so many bytes a second: 100M.", valueName: "size")) var rate: String?
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withoutSnapshot: target)
        let rate = try rate.map { text throws(ToolError) in try SizeText.bytes(text) }
        let found = try context.target(address.path)
        let session = try found.session(.readOnly, host: context.host)
        var findings: [JSON] = []
        let report = try withProgress("verify", context) { meter throws(ToolError) -> JSON in
            do throws(ToolError) {
                return try session.call(
                    "verify", ["quick": .bool(quick), "rate": rate.map { JSON($0) } ?? .null],
                    progress: { meter.update(done: $0, total: $1) },
                    event: { portion in
                        findings += portion["items"]?.items ?? []
                        return false
                    })
            } catch {
                try? session.close()
                throw error
            }
        }
        try session.close()
        let isDamaged = report["damaged"]?.flag ?? false
        show(found, report, findings, isDamaged, context)
        return isDamaged ? .damage : findings.isEmpty ? .done : .remarks
    }

    private func show(_ target: Target, _ report: JSON, _ findings: [JSON], _ isDamaged: Bool, _ context: Context) {
        if context.isJSON {
            for finding in findings { Output.message("error", finding) }
            Output.message("summary", (["path": .string(target.path), "quick": .bool(quick)] as JSON).joined(report))
            return
        }
        for finding in findings { Output.line(line(finding)) }
        if context.settings.isQuiet, findings.isEmpty { return }
        let bytes = SizeText.human(report["checked_bytes"]?.count ?? 0)
        let layers = report["checked_layers"]?.int ?? 0
        let what = "\(bytes) in \(counted(layers, "layer")) checked"
        if isDamaged {
            Output.line(
                Output.coloured("DAMAGED", .red)
                    + ": \(what), \(counted(findings.count, "finding")); restore what is named above from a copy")
        } else if findings.isEmpty {
            Output.line(Output.coloured("good", .green) + ": \(what)" + (quick ? ", metadata only" : ""))
        } else {
            Output.line(Output.coloured("good", .green) + ": \(what); \(counted(findings.count, "remark"))")
        }
    }

    private func counted(_ count: Int, _ word: String) -> String { "\(count) \(word)" + (count == 1 ? "" : "s") }

    private func line(_ finding: JSON) -> String {
        let word =
            (finding["damage"]?.flag ?? false) ? Output.coloured("damage", .red) : Output.coloured("remark", .yellow)
        var text = "\(word): \(finding["kind"]?.text ?? "?"): \(finding["path"]?.text ?? "?")"
        if let start = finding["start"]?.count, let length = finding["length"]?.count {
            text += ", bytes \(start)+\(length)"
        }
        if let snapshot = finding["snapshot"]?.text { text += ", snapshot \(snapshot)" }
        return text + ": \(printable(finding["message"]?.text ?? ""))"
    }
}
