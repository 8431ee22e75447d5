import ArgumentParser
import HostIO
import Primitives
import Replication

struct Status: ToolCommand {
    static let configuration = CommandConfiguration(abstract: "Show how a volume is, and what to do next.")

    @Argument(help: "A volume or a replica.") var volume: String
    @Flag(help: "Show it again and again, until interrupted.") var watch = false
    @OptionGroup var globals: Globals

    private static let watchIntervalNs: UInt64 = 2_000_000_000

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withoutSnapshot: volume)
        let target = try context.target(address.path)
        while true {
            let session = try target.session(.readOnly, host: context.host)
            let status = try session.call("status")
            try session.close()
            let document = (["kind": .string(target.kind.rawValue), "path": .string(target.path)] as JSON).joined(
                status
            )
            .adding("next", JSON(next(target, status)))
            if context.isJSON {
                if watch {
                    Output.line(JSON.document(document).description)
                } else {
                    Output.document(.document(document))
                }
            } else {
                Output.write((watch && Output.hasColour ? "\u{1B}[H\u{1B}[2J" : "") + text(document))
            }
            if !watch { return .done }
            Interruption.shared.wait(nanoseconds: Status.watchIntervalNs)
        }
    }

    /// The command to type now, or what else to do.
    private func next(_ target: Target, _ status: JSON) -> String? {
        if status["outcome_at_open"]?.text == "damaged" { return "replica-tool verify \(target.path)" }
        switch status["state"]?.text {
        case "failed": return "replica-tool export \(target.path) FILE"
        case "full": return "free space on the file system of \(target.replicaPath)"
        default: return status["served"] == nil ? "replica-tool mount \(target.path) MOUNTPOINT" : nil
        }
    }

    private func text(_ status: JSON) -> String {
        let state = status["state"]?.text ?? "unknown"
        let colour: Output.Colour = state == "healthy" ? .green : state == "failed" ? .red : .yellow
        let served = status["served"]
        let place = served?["mountpoint"]?.text.map { "\($0) by process \(served?["pid"]?.int ?? 0)" } ?? "not mounted"
        let behind =
            (status["revision"]?.count ?? 0)
            - min(status["revision"]?.count ?? 0, status["flushed_revision"]?.count ?? 0)
        return facts([
            ("volume", status["path"]?.text), ("state", Output.coloured(state, colour)),
            ("cause", status["cause"]?.text),
            ("mounted at", place), ("size", human(status["size"])),
            ("revision", status["revision"]?.count.map { "\($0)" + (behind > 0 ? " (\(behind) not flushed)" : "") }),
            ("snapshots", status["snapshots"]?.int.map(String.init)),
            (
                "journal",
                status["journal_used"]?.count.map {
                    "\(SizeText.human($0)) of \(SizeText.human(status["journal_size"]?.count ?? 0))"
                }
            ),
            ("work", status["work"]?.text), ("last open", status["outcome_at_open"]?.text),
            ("next", status["next"]?.text),
        ])
    }
}

struct Events: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Follow the changes of a volume as JSON lines.",
        discussion: """
            First a line with "event":"exists" for the volume, its replica and each snapshot, then create, change and \
            destroy as they happen. A volume that is not mounted cannot change: the list ends.
            """)

    @Argument(help: "A volume or a replica.") var volume: String
    @Flag(help: "Only list what exists now.") var now = false
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withoutSnapshot: volume)
        let session = try context.target(address.path).session(.readOnly, host: context.host)
        _ = try session.call("events", ["now": .bool(now || !session.isServed)], progress: nil) { event in
            Output.line(event.description)
            return false
        }
        try session.close()
        return .done
    }
}

struct ReplicaGroup: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replica", abstract: "The replicas of a volume.", subcommands: [ReplicaList.self])
}

struct ReplicaList: ToolCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List the replicas of a volume.")

    @Argument(help: "A volume or a replica.") var volume: String
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withoutSnapshot: volume)
        let target = try context.target(address.path)
        let session = try target.session(.readOnly, host: context.host)
        let status = try session.call("status")
        try session.close()
        let replica: JSON = [
            "path": .string(target.replicaPath), "uuid": status["replica_uuid"] ?? .null,
            "state": status["state"] ?? .null, "cause": status["cause"] ?? .null,
            "revision": status["revision"] ?? .null, "flushed_revision": status["flushed_revision"] ?? .null,
        ]
        if context.isJSON {
            Output.document(.document(["replicas": [replica]]))
        } else {
            var table = Table([("REPLICA", .left), ("STATE", .left), ("REVISION", .right), ("UUID", .left)])
            table.add([
                target.replicaPath, replica["state"]?.text ?? "-", replica["revision"]?.count.map(String.init) ?? "-",
                replica["uuid"]?.text ?? "-",
            ])
            Output.write(table.text)
        }
        return .done
    }
}
