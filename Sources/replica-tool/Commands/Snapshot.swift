import ArgumentParser
import Primitives
import Replication

struct SnapshotGroup: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshot", abstract: "Take, list, compare, revert to and delete snapshots.",
        subcommands: [
            SnapshotCreate.self, SnapshotList.self, SnapshotDelete.self, SnapshotRevert.self, SnapshotRename.self,
            SnapshotProtect.self, SnapshotUnprotect.self, SnapshotDiff.self,
        ])
}

/// Opens what the address names, changes it, and closes it again in any case.
func changing(
    _ address: Address, _ context: Context, _ body: (any Session) throws(ToolError) -> JSON?
) throws(ToolError) -> JSON? {
    let session = try context.target(address.path).session(.readWrite, host: context.host)
    return try Interruption.shared.critical { () throws(ToolError) in
        do throws(ToolError) {
            let result = try body(session)
            try session.close()
            return result
        } catch {
            try? session.close()
            throw error
        }
    }
}

struct SnapshotCreate: ToolCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Take a snapshot; at once, also under load.",
        discussion: """
            With --freeze the file systems that are mounted from a loop device over MOUNTPOINT/volume are written out \
            and held still for the moment of the snapshot, so that it needs no repair when it is mounted.
            """)

    @Argument(help: "The volume and the new name: VOLUME@SNAP.") var snapshot: String
    @Option(
        name: .customLong("label"), help: ArgumentHelp("A label; may be given several times.", valueName: "name=value"))
    var labels: [String] = []
    @Flag(help: "Hold the file systems on the volume still meanwhile.") var freeze = false
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withSnapshot: snapshot)
        let labels = try parseLabels(labels)
        let name = address.snapshot ?? ""
        let result = try changing(address, context) { session throws(ToolError) in
            if context.isDryRun("take the snapshot \(address.text)") { return nil }
            let arguments: JSON = ["name": .string(name), "labels": JSON(labels), "freeze": .bool(freeze)]
            do throws(ToolError) {
                return try session.call("snapshot.create", arguments)
            } catch {
                // The daemon thaws by itself; only its death leaves that to us.
                if freeze { thawOrphans(session) }
                throw error
            }
        }
        guard let result else { return .done }
        if freeze, result["frozen"]?.items?.isEmpty ?? true {
            context.remark("nothing was frozen: no file system is mounted from a loop device over the volume")
        }
        context.done("took the snapshot \(address.text)", result)
        return .done
    }

    private func thawOrphans(_ session: any Session) {
        let sources = MountEntry.all().filter { $0.isOurs && $0.source == session.target.path }
        for mount in sources {
            FrozenFileSystems.thaw(FrozenFileSystems.mountpoints(backedBy: mount.mountpoint + "/volume"))
        }
    }
}

struct SnapshotDelete: ToolCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete", abstract: "Delete a snapshot; what others still need is merged into its neighbour.",
        discussion: "The volume may be mounted and in use. Interrupted, it goes on when it is called again.")

    @Argument(help: "VOLUME@SNAP.") var snapshot: String
    @Option(help: ArgumentHelp("Merge at most so many bytes a second: 100M.", valueName: "size")) var rate: String?
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withSnapshot: snapshot)
        let rate = try rate.map { text throws(ToolError) in try SizeText.bytes(text) }
        let name = address.snapshot ?? ""
        let result = try changing(address, context) { session throws(ToolError) in
            let snapshots = try session.list("snapshot.list", ["usage": true])
            guard let found = snapshots.first(where: { $0["name"]?.text == name }) else {
                throw ToolError(
                    .notFound, "\(session.target.path) has no snapshot '\(name)': see 'replica-tool snapshot list'")
            }
            if found["protected"]?.flag ?? false {
                throw ToolError(
                    .inUse, "\(address.text) is protected: 'replica-tool snapshot unprotect \(address.text)' first")
            }
            let freed = found["freed_if_deleted"]?.count ?? 0
            if context.isDryRun(
                "delete the snapshot \(address.text) and give back \(SizeText.human(freed))",
                ["name": .string(name), "freed_if_deleted": JSON(freed)])
            {
                return nil
            }
            try context.confirm("Delete the snapshot \(address.text)")
            return try withProgress("merge", context) { meter throws(ToolError) in
                try session.call(
                    "snapshot.delete", ["name": .string(name), "rate": rate.map { JSON($0) } ?? .null],
                    progress: { meter.update(done: $0, total: $1) }, event: nil)
            }
        }
        guard let result else { return .done }
        let freed = result["freed"]?.count.map { ", \(SizeText.human($0)) given back" } ?? ""
        if context.isJSON {
            Output.message("summary", result)
        } else {
            context.done("deleted the snapshot \(address.text)\(freed)", result)
        }
        return .done
    }
}

struct SnapshotRevert: ToolCommand {
    static let configuration = CommandConfiguration(
        commandName: "revert", abstract: "Make the volume's content that of a snapshot.",
        discussion: "What the volume holds now is kept as a snapshot, before-revert-N, unless --discard-head is given.")

    @Argument(help: "VOLUME@SNAP.") var snapshot: String
    @Flag(help: "Lose what the volume holds now.") var discardHead = false
    @Option(help: ArgumentHelp("The name of the snapshot that keeps it.", valueName: "name")) var keepHead: String?
    @Flag(help: "Also while it is mounted: its users see other content at once.") var online = false
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withSnapshot: snapshot)
        if let keepHead {
            if discardHead { throw ToolError(.usage, "--keep-head and --discard-head exclude each other: give one") }
            try Address.checkSnapshotName(keepHead)
        }
        let result = try changing(address, context) { session throws(ToolError) in
            let what = discardHead ? "losing what it holds now" : "keeping what it holds now"
            if context.isDryRun("revert \(address.path) to \(address.snapshot ?? ""), \(what)") { return nil }
            if discardHead {
                try context.confirm("Revert \(address.path) to \(address.snapshot ?? "") and lose what it holds now")
            }
            return try session.call(
                "snapshot.revert",
                [
                    "name": JSON(address.snapshot), "discard_head": .bool(discardHead), "keep_head": JSON(keepHead),
                    "online": .bool(online),
                ])
        }
        if let result {
            let kept = result["kept_head"]?.text.map { "; what it held is kept as \(address.path)@\($0)" } ?? ""
            if let text = result["remark"]?.text { context.remark(text) }
            context.done("reverted \(address.path) to \(address.snapshot ?? "")\(kept)", result)
        }
        return .done
    }
}

struct SnapshotRename: ToolCommand {
    static let configuration = CommandConfiguration(commandName: "rename", abstract: "Give a snapshot another name.")

    @Argument(help: "VOLUME@SNAP.") var snapshot: String
    @Argument(help: "The new name.") var name: String
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withSnapshot: snapshot)
        // VOLUME@NEW is what other tools take.
        let newName = name.hasPrefix(address.path + "@") ? String(name.dropFirst(address.path.count + 1)) : name
        try Address.checkSnapshotName(newName)
        let result = try changing(address, context) { session throws(ToolError) in
            if context.isDryRun("rename \(address.text) to \(newName)") { return nil }
            return try session.call("snapshot.rename", ["name": JSON(address.snapshot), "new_name": .string(newName)])
        }
        if let result { context.done("renamed \(address.text) to \(newName)", result) }
        return .done
    }
}

struct SnapshotProtect: ToolCommand {
    static let configuration = CommandConfiguration(
        commandName: "protect", abstract: "Keep a snapshot from being deleted.")

    @Argument(help: "VOLUME@SNAP.") var snapshot: String
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit { try setProtected(snapshot, true, context) }
}

struct SnapshotUnprotect: ToolCommand {
    static let configuration = CommandConfiguration(
        commandName: "unprotect", abstract: "Allow a snapshot to be deleted again.")

    @Argument(help: "VOLUME@SNAP.") var snapshot: String
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit { try setProtected(snapshot, false, context) }
}

private func setProtected(_ snapshot: String, _ isProtected: Bool, _ context: Context) throws(ToolError) -> Exit {
    let address = try Address(withSnapshot: snapshot)
    let word = isProtected ? "protect" : "unprotect"
    let result = try changing(address, context) { session throws(ToolError) in
        if context.isDryRun("\(word) \(address.text)") { return nil }
        return try session.call("snapshot.protect", ["name": JSON(address.snapshot), "protected": .bool(isProtected)])
    }
    if let result { context.done("\(word)ed \(address.text)", result) }
    return .done
}
