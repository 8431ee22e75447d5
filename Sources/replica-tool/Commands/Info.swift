import ArgumentParser
import HostIO
import Primitives
import Replication

struct Info: ToolCommand {
    static let configuration = CommandConfiguration(abstract: "Show what a volume, a replica or a snapshot is.")

    @Argument(help: "A volume, a replica, or one of its snapshots.") var target: String
    @Flag(help: "Show each layer with the space that it takes.") var chain = false
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(target)
        let found = try context.target(address.path)
        let session = try found.session(.readOnly, host: context.host)
        var document = try describe(found, session)
        if let name = address.snapshot {
            guard
                let snapshot = try session.list("snapshot.list", ["usage": true]).first(where: {
                    $0["name"]?.text == name
                })
            else {
                throw ToolError(.notFound, "\(found.path) has no snapshot '\(name)': see 'replica-tool snapshot list'")
            }
            document = document.adding("snapshot", snapshot)
        }
        let layers = chain ? try session.list("layers") : nil
        try session.close()
        if let layers { document = document.adding("layers", .array(layers)) }
        if context.isJSON {
            Output.document(.document(document))
        } else {
            Output.write(text(document))
            if let layers { Output.write("\n" + LayerTable.text(layers)) }
        }
        return .done
    }

    private func describe(_ target: Target, _ session: any Session) throws(ToolError) -> JSON {
        let info = try session.call("info")
        var document: JSON = ["kind": .string(target.kind.rawValue), "path": .string(target.path)]
        if let volume = target.volume, target.kind == .volume {
            document = document.joined([
                "format_version": JSON(VolumeRecord.formatVersion), "created": .string(volume.record.created.rfc3339),
                "replicas": .array(volume.record.replicas.map { .string($0) }),
            ])
        } else {
            document = document.adding("replicas", [.string(target.replicaPath)])
        }
        return document.joined(info)
    }

    private func text(_ document: JSON) -> String {
        var lines: [(String, String?)] = [
            ("kind", document["kind"]?.text), ("path", document["path"]?.text), ("uuid", document["uuid"]?.text),
            ("size", human(document["size"])), ("allocated", human(document["allocated"])),
            ("created", document["created"]?.text),
            ("labels", document["labels"]?.texts.map(labelText).flatMap { $0.isEmpty ? nil : $0 }),
            ("replicas", document["replicas"]?.items?.compactMap(\.text).joined(separator: ", ")),
            ("snapshots", document["snapshots"]?.int.map(String.init)), ("state", document["state"]?.text),
            ("free space", human(document["space"]?["available"])),
            ("last open", document["recovery"]?["outcome"]?.text),
            ("mounted at", document["served"]?["mountpoint"]?.text),
        ]
        if let snapshot = document["snapshot"] {
            lines += [
                ("snapshot", snapshot["name"]?.text), ("taken", snapshot["created"]?.text),
                ("its size", human(snapshot["size"])), ("present", human(snapshot["present"])),
                ("exclusive", human(snapshot["exclusive"])), ("freed if deleted", human(snapshot["freed_if_deleted"])),
                ("parent", snapshot["parent"]?.text),
                ("protected", (snapshot["protected"]?.flag ?? false) ? "yes" : "no"),
            ]
        }
        return facts(lines)
    }
}

/// The layers of a chain, one a row.
enum LayerTable {
    static func text(_ layers: [JSON]) -> String {
        var table = Table([
            ("LAYER", .left), ("SNAPSHOT", .left), ("PRESENT", .right), ("EXCLUSIVE", .right),
            ("FREED IF DELETED", .right), ("ON DISK", .right),
        ])
        for layer in layers {
            let name =
                layer["snapshot"]?.text ?? ((layer["being_deleted"]?.flag ?? false) ? "(being deleted)" : "(head)")
            table.add([
                layer["layer"]?.text ?? "-", name, human(layer["present"]) ?? "-", human(layer["exclusive"]) ?? "-",
                human(layer["freed_if_deleted"]) ?? "-", human(layer["allocated"]) ?? "-",
            ])
        }
        return table.text
    }
}

func human(_ json: JSON?) -> String? { json?.count.map(SizeText.human) }

func labelText(_ labels: [String: String]) -> String {
    labels.sorted { $0.key < $1.key }.map { printable("\($0.key)=\($0.value)") }.joined(separator: " ")
}
