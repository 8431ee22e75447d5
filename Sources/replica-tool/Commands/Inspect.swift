import ArgumentParser
import HostIO
import Primitives
import Replication

struct Inspect: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what the files of a replica say, decoded for a person.",
        discussion: "Reads only, takes no lock and recovers nothing: it works on a damaged replica, and beside a mount."
    )

    @Argument(help: "A volume or a replica.") var replica: String
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withoutSnapshot: replica)
        let target = try context.target(address.path)
        let document = try inspectReplica(target.replicaPath, host: context.host)
        if context.isJSON {
            Output.document(.document(document))
        } else {
            Output.write(outline(document))
        }
        return .done
    }

    /// `name: value`, deeper levels further in; lists with a dash for each item.
    private func outline(_ json: JSON, _ indentation: String = "") -> String {
        var text = ""
        for member in json.members ?? [] {
            switch member.value {
            case .object: text += "\(indentation)\(member.name):\n" + outline(member.value, indentation + "  ")
            case .array(let items):
                text += "\(indentation)\(member.name):\(items.isEmpty ? " none" : "")\n"
                for item in items {
                    guard item.members != nil else {
                        text += "\(indentation)  - \(item.text ?? item.description)\n"
                        continue
                    }
                    let lines = outline(item, indentation + "    ")
                    text += "\(indentation)  - " + lines.dropFirst(indentation.count + 4)
                }
            default:
                text += "\(indentation)\(member.name): \(printable(member.value.text ?? member.value.description))\n"
            }
        }
        return text
    }
}
