import ArgumentParser
import Primitives
import Replication

struct SnapshotList: ToolCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List the snapshots of a volume as a tree.",
        discussion: """
            PRESENT is what the snapshot's own layer holds, EXCLUSIVE what nobody else sees, FREED what a delete gives \
            back now.
            """)

    @Argument(help: "A volume or a replica.") var volume: String
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withoutSnapshot: volume)
        let target = try context.target(address.path)
        let session = try target.session(.readOnly, host: context.host)
        let snapshots = try session.list("snapshot.list", ["usage": true])
        let head = context.isJSON ? nil : try session.list("layers").last { $0["snapshot"] == nil }
        try session.close()
        if context.isJSON {
            Output.document(.document(["volume": .string(target.path), "snapshots": .array(snapshots)]))
        } else {
            Output.write(SnapshotTree.text(snapshots, head: head))
        }
        return .done
    }
}

/// Snapshots below those that they stand on, and where the head stands.
enum SnapshotTree {
    static func text(_ snapshots: [JSON], head: JSON?) -> String {
        var table = Table([
            ("NAME", .left), ("CREATED", .left), ("PRESENT", .right), ("EXCLUSIVE", .right), ("FREED", .right),
            ("LABELS", .left),
        ])
        var children: [String: [JSON]] = [:]
        let names = Set(snapshots.compactMap { $0["name"]?.text })
        for snapshot in snapshots {
            // A parent that is not listed is one on its way out: its child stands at the root meanwhile.
            let parent = snapshot["parent"]?.text.flatMap { names.contains($0) ? $0 : nil } ?? ""
            children[parent, default: []].append(snapshot)
        }
        // Depth first with a list of what is left to show: a chain of a thousand is no recursion of a thousand.
        var left = branch(children[""] ?? [], "", isRoot: true)
        if !snapshots.contains(where: { $0["head_parent"]?.flag ?? false }) { left.insert((nil, "", ""), at: 0) }
        while let (snapshot, prefix, below) = left.popLast() {
            guard let snapshot, let name = snapshot["name"]?.text else {
                table.add([
                    prefix + Output.coloured("(head)", .bold), "", human(head?["present"]) ?? "-",
                    human(head?["exclusive"]) ?? "-", "", "",
                ])
                continue
            }
            let mark = (snapshot["protected"]?.flag ?? false) ? " [protected]" : ""
            table.add([
                prefix + name + mark, snapshot["created"]?.text ?? "-", human(snapshot["present"]) ?? "-",
                human(snapshot["exclusive"]) ?? "-", human(snapshot["freed_if_deleted"]) ?? "-",
                labelText(snapshot["labels"]?.texts ?? [:]),
            ])
            let hasHead = snapshot["head_parent"]?.flag ?? false
            left += branch(children[name] ?? [], below, isRoot: false, hasHead: hasHead)
        }
        return table.text
    }

    /// What stands on one snapshot, last first: the only one in the same column, several each with a branch of its own.
    private static func branch(
        _ snapshots: [JSON], _ indentation: String, isRoot: Bool, hasHead: Bool = false
    ) -> [(JSON?, String, String)] {
        let all: [JSON?] = snapshots + (hasHead ? [nil] : [])
        if isRoot || all.count == 1 { return all.reversed().map { ($0, indentation, indentation) } }
        return all.enumerated().reversed().map { index, snapshot in
            let isLast = index == all.count - 1
            return (snapshot, indentation + (isLast ? "└─ " : "├─ "), indentation + (isLast ? "   " : "│  "))
        }
    }
}
