import ArgumentParser
import Primitives
import Replication

struct Map: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show which layer holds each part of a volume.",
        discussion: """
            DEPTH counts layers down from the one asked for: 0 is its own. With --json the shape is that of qemu-img \
            map --output=json, with the layer added.
            """)

    @Argument(help: "A volume, a replica, or one of its snapshots.") var target: String
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(target)
        let session = try context.target(address.path).session(.readOnly, host: context.host)
        let deepest = max(1, try session.call("status")["layers"]?.int ?? 1) - 1
        var count = 0
        // The heading waits for the first result, so that an error stands alone.
        func begin() {
            if count == 0 {
                Output.write(context.isJSON ? "[" : Map.row("START", "LENGTH", "DEPTH", "TYPE", "LAYER") + "\n")
            }
        }
        _ = try session.map(snapshot: address.snapshot) { extent in
            begin()
            if context.isJSON {
                Output.write((count == 0 ? "\n" : ",\n") + Map.json(extent, deepest: deepest).description)
            } else {
                Output.line(Map.line(extent))
            }
            count += 1
            return false
        }
        begin()
        if context.isJSON { Output.line("\n]") }
        try session.close()
        return .done
    }

    /// A run that no layer holds has the depth of the deepest one, where qemu-img looks for it last.
    private static func json(_ extent: JSON, deepest: Int) -> JSON {
        let isPresent = extent["present"]?.flag ?? false
        return [
            "start": extent["start"] ?? 0, "length": extent["length"] ?? 0, "depth": extent["depth"] ?? JSON(deepest),
            "present": .bool(isPresent), "zero": extent["zero"] ?? .bool(!isPresent),
            "data": extent["data"] ?? .bool(isPresent),
            "layer": extent["layer"] ?? .null, "snapshot": extent["snapshot"] ?? .null,
        ]
    }

    private static func line(_ extent: JSON) -> String {
        let isPresent = extent["present"]?.flag ?? false
        let type = !isPresent ? "hole" : (extent["zero"]?.flag ?? false) ? "zero" : "data"
        let layer = isPresent ? extent["snapshot"]?.text ?? "(head)" : "-"
        return row(
            extent["start"]?.count.map(String.init) ?? "-", extent["length"]?.count.map(String.init) ?? "-",
            extent["depth"]?.int.map(String.init) ?? "-", type, layer)
    }

    private static func row(_ start: String, _ length: String, _ depth: String, _ type: String, _ layer: String)
        -> String
    {
        func right(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(0, width - text.count)) + text
        }
        return right(start, 16) + " " + right(length, 16) + " " + right(depth, 6) + "  " + type + "  " + layer
    }
}
