import ArgumentParser
import Primitives

/// Manual pages in roff, made from the descriptions that the parser gives of itself.
struct ManPage {
    /// `replica-tool-snapshot-create`
    let name: String
    let text: String

    /// One page for the tool and one for each verb.
    static func all() throws(ToolError) -> [ManPage] {
        let dump: JSON
        do {
            dump = try JSON(parsing: ReplicaTool._dumpHelp(), depthLimit: 64)
        } catch {
            throw ToolError(.failed, "the parser's description of itself cannot be read: \(error)")
        }
        guard let command = dump["command"] else { throw ToolError(.failed, "the parser describes no command") }
        return pages(of: command, below: [])
    }

    private static func pages(of command: JSON, below: [String]) -> [ManPage] {
        guard let name = command["commandName"]?.text, name != "help" else { return [] }
        let path = below + [name]
        let subcommands = command["subcommands"]?.items ?? []
        return [page(command, path, subcommands)] + subcommands.flatMap { pages(of: $0, below: path) }
    }

    private static func page(_ command: JSON, _ path: [String], _ subcommands: [JSON]) -> ManPage {
        let name = path.joined(separator: "-")
        let arguments = (command["arguments"]?.items ?? []).filter { $0["shouldDisplay"]?.flag ?? true }
        var text = ".TH \"\(escaped(name.uppercased()))\" \"1\" \"\" \"replica-tool \(toolVersion)\" \"replica-tool\"\n"
        text += ".SH NAME\n\(escaped(name)) \\- \(escaped(command["abstract"]?.text ?? ""))\n"
        text += ".SH SYNOPSIS\n.B \(escaped(path.joined(separator: " ")))\n"
        for argument in arguments { text += synopsis(argument) }
        if !subcommands.isEmpty { text += ".I verb\n[\\fIarguments\\fR]\n" }
        if let discussion = command["discussion"]?.text {
            text +=
                ".SH DESCRIPTION\n"
                + discussion.split(separator: "\n", omittingEmptySubsequences: false)
                .map { $0.isEmpty ? ".PP" : protected(escaped(String($0))) }.joined(separator: "\n") + "\n"
        }
        if !arguments.isEmpty { text += ".SH OPTIONS\n" + arguments.map(option).joined() }
        let verbs = subcommands.filter { $0["commandName"]?.text != "help" }
        if !verbs.isEmpty {
            text += ".SH VERBS\n"
            for verb in verbs {
                let verbName = verb["commandName"]?.text ?? ""
                text +=
                    ".TP\n.B \(escaped(verbName))\n\(protected(escaped(verb["abstract"]?.text ?? "")))\n"
                    + "See \\fB\(escaped(name))\\-\(escaped(verbName))\\fR(1).\n"
            }
        }
        text += exitCodes
        if path.count > 1 { text += ".SH SEE ALSO\n\\fB\(escaped(path.dropLast().joined(separator: "-")))\\fR(1)\n" }
        return ManPage(name: name, text: text)
    }

    private static func synopsis(_ argument: JSON) -> String {
        let isOptional = argument["isOptional"]?.flag ?? true
        let word = words(argument).first ?? ""
        let dots = (argument["isRepeating"]?.flag ?? false) ? "..." : ""
        return isOptional ? "[\(word)]\(dots)\n" : "\(word)\(dots)\n"
    }

    private static func option(_ argument: JSON) -> String {
        var text = ".TP\n" + words(argument).joined(separator: ", ") + "\n"
        text += protected(escaped(argument["abstract"]?.text ?? "")) + "\n"
        if let value = argument["defaultValue"]?.text { text += "Default: \(escaped(value)).\n" }
        return text
    }

    /// `-q`, `--quiet`, `--size size`, or the name of a positional argument.
    private static func words(_ argument: JSON) -> [String] {
        let value = escaped(argument["valueName"]?.text ?? "")
        if argument["kind"]?.text == "positional" { return ["\\fI\(value)\\fR"] }
        let suffix = argument["kind"]?.text == "option" ? " \\fI\(value)\\fR" : ""
        return (argument["names"]?.items ?? []).map { name in
            let dashes = name["kind"]?.text == "long" ? "\\-\\-" : "\\-"
            return "\\fB\(dashes)\(escaped(name["name"]?.text ?? ""))\\fR" + suffix
        }
    }

    private static let exitCodes = """
        .SH EXIT STATUS
        0 done; 1 failed; 2 damage found; 3 done with remarks; 10 not found; 11 in use; 13 not enough replicas;
        14 no space; 15 split brain; 63 format not supported; 64 wrong use; 130 interrupted.
        \\fBcompare\\fR has its own: 0 the same, 1 different, 2 error.

        """

    private static func escaped(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "\\": result += "\\e"
            case "-": result += "\\-"
            default: result.append(character)
            }
        }
        return result
    }

    /// A line that begins with a point or a quote would be a request.
    private static func protected(_ line: String) -> String {
        line.hasPrefix(".") || line.hasPrefix("'") ? "\\&" + line : line
    }
}
