import ArgumentParser
import Glibc
import HostIO
import Primitives
import Replication

struct Resize: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Change the size of a volume, also while it is mounted.",
        discussion:
            "SIZE is the new size, +SIZE what is added. Less than now needs --shrink, and what lay behind is lost.")

    @Argument(help: "A volume or a replica.") var volume: String
    @Argument(help: "The new size, or + and what is added: 20G, +5G.") var size: String
    @Flag(help: "Allow a smaller size; snapshots keep what they hold.") var shrink = false
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withoutSnapshot: volume)
        let isAdded = size.hasPrefix("+")
        let given = try SizeText.volumeSize(isAdded ? String(size.dropFirst()) : size)
        let target = try context.target(address.path)
        let session = try target.session(.readWrite, host: context.host)
        let result = try Interruption.shared.critical { () throws(ToolError) -> JSON? in
            do throws(ToolError) {
                let result = try change(session, given, isAdded, context)
                try session.close()
                return result
            } catch {
                try? session.close()
                throw error
            }
        }
        guard let result else { return .done }
        let old = result["old_size"]?.count ?? 0
        let new = result["size"]?.count ?? 0
        if let file = result["truncate"]?.text, truncate(file, off_t(clamping: new)) != 0 {
            context.remark(
                "the kernel still holds the old size of \(file): \(errorText(errno)); mount it anew to see the new one")
        }
        if let text = result["remark"]?.text { context.remark(text) }
        context.done(
            "resized \(target.path) from \(SizeText.human(old)) to \(SizeText.human(new))",
            ["path": .string(target.path), "old_size": JSON(old), "size": JSON(new)])
        return result["remark"] == nil ? .done : .remarks
    }

    /// nil for a dry run.
    private func change(
        _ session: any Session, _ given: UInt64, _ isAdded: Bool, _ context: Context
    ) throws(ToolError) -> JSON? {
        let path = session.target.path
        let old = try session.call("view")["size"]?.count ?? 0
        let new = isAdded ? old + given : given
        guard new <= SizeText.volumeLimit else {
            throw ToolError(.usage, "\(SizeText.human(new)) is too large for a volume: 64T is the most")
        }
        if new < old {
            let lost = SizeText.human(old - new)
            guard shrink else {
                throw ToolError(
                    .usage,
                    "\(SizeText.human(new)) is less than the \(SizeText.human(old)) of \(path): add --shrink to cut \(lost) off"
                )
            }
            if !context.settings.isDryRun {
                try context.confirm("Shrink \(path) to \(SizeText.human(new)) and lose the last \(lost)")
            }
        }
        if context.isDryRun("resize \(path) from \(SizeText.human(old)) to \(SizeText.human(new))") { return nil }
        return try session.call("resize", ["size": JSON(new), "shrink": .bool(shrink)])
    }
}
