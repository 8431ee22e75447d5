import ArgumentParser
import Glibc
import HostIO
import Primitives
import Storage

/// What a verb runs with.
struct Context: Sendable {
    let settings: Settings
    let host: any Host

    var isJSON: Bool { settings.isJSON }

    /// A line for a person, on standard error, so that standard output holds results alone.
    func remark(_ text: String) {
        if settings.isQuiet { return }
        if isJSON {
            Output.error(
                (["message_type": "remark", "schema_version": schemaVersion, "message": .string(text)] as JSON)
                    .description)
        } else {
            Output.error("replica-tool: \(text)")
        }
    }

    /// More of what is done, for -v.
    func detail(_ text: @autoclosure () -> String) {
        if settings.isVerbose { remark(text()) }
    }

    /// What a verb did: a line for a person, or one document.
    func done(_ text: String, _ json: JSON) {
        if isJSON {
            Output.document(.document(json))
        } else if !settings.isQuiet {
            Output.line(text)
        }
    }

    /// With --dry-run: says what would be done.
    /// - Returns: whether to stop here.
    func isDryRun(_ what: String, _ json: JSON = [:]) -> Bool {
        guard settings.isDryRun else { return false }
        done("would \(what); nothing was done", (["dry_run": true, "would": .string(what)] as JSON).joined(json))
        return true
    }

    /// Asks before something that cannot be undone.
    /// - Throws: usage where nobody can be asked; `failed` for a no.
    func confirm(_ question: String) throws(ToolError) {
        if settings.assumesYes { return }
        guard isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1, !isJSON else {
            throw ToolError(.usage, "\(question)? There is no terminal to ask on: add --yes to do it")
        }
        let text = Array("\(question)? [y/N] ".utf8)
        _ = write(STDERR_FILENO, text, text.count)
        let answer = readLine(strippingNewline: true)?.lowercased() ?? ""
        guard answer == "y" || answer == "yes" else { throw ToolError(.failed, "not done, as you answered") }
    }

    func target(_ path: String) throws(ToolError) -> Target {
        let target = try Target(path, host: host)
        if let text = target.remark { remark(text) }
        return target
    }
}

extension JSON {
    /// The members of both.
    func joined(_ other: JSON) -> JSON { .object((members ?? []) + (other.members ?? [])) }
}

/// A verb.
protocol ToolCommand: ParsableCommand {
    var globals: Globals { get }
    /// - Returns: `done`, or another end that is no error.
    func execute(_ context: Context) throws(ToolError) -> Exit
}

extension ToolCommand {
    /// Never used: `Entry` calls `execute`, which knows the exit code.
    mutating func run() throws {}
}
