import ArgumentParser
import Glibc
import HostIO
import Primitives
import Storage

/// Where the process starts: words to a verb, its end to an exit code.
@main
enum Entry {
    static func main() { exit(run(Array(CommandLine.arguments.dropFirst())).rawValue) }

    nonisolated static func run(_ arguments: [String]) -> Exit {
        umask(0o077)
        let words = globalsLast(arguments)
        // Wrong words must be answered in JSON too when JSON was asked for.
        let wantsJSON = asksForJSON(words)
        let command: any ParsableCommand
        do {
            command = try ReplicaTool.parseAsRoot(words)
        } catch {
            return end(error, wantsJSON)
        }
        guard let verb = command as? any ToolCommand else { return runPlain(command, wantsJSON) }
        let host = LinuxHost()
        var settings: Settings
        do throws(ToolError) {
            settings = try Settings(verb.globals, environment: Settings.environment())
        } catch {
            report(error, isJSON: wantsJSON)
            return error.exit
        }
        Interruption.shared.setJSON(settings.isJSON)
        Interruption.shared.start(host: host)
        do throws(ToolError) {
            return try verb.execute(Context(settings: settings, host: host))
        } catch {
            report(error, isJSON: settings.isJSON)
            return error.exit
        }
    }

    /// A command that is none of ours: the help, or a group without its verb.
    private static func runPlain(_ command: any ParsableCommand, _ wantsJSON: Bool) -> Exit {
        let group: String? =
            switch command {
            case is ReplicaTool: ""
            case is SnapshotGroup: " snapshot"
            case is ReplicaGroup: " replica"
            default: nil
            }
        if let group {
            report(ToolError(.usage, "no verb is given; see 'replica-tool help\(group)'"), isJSON: wantsJSON)
            return .usage
        }
        var command = command
        do {
            try command.run()
            return .done
        } catch {
            return end(error, wantsJSON)
        }
    }

    /// Help and completion scripts end well; a wrong word is one line and 64.
    private static func end(_ error: any Error, _ wantsJSON: Bool) -> Exit {
        if let error = error as? ToolError {
            report(error, isJSON: wantsJSON)
            return error.exit
        }
        let code = ReplicaTool.exitCode(for: error)
        if code.isSuccess {
            Output.line(ReplicaTool.message(for: error))
            return .done
        }
        let message = ReplicaTool.message(for: error)
        let first = message.split(whereSeparator: \.isNewline).first.map(String.init) ?? "wrong use"
        report(ToolError(.usage, first + "; see 'replica-tool help'"), isJSON: wantsJSON)
        return .usage
    }

    private static let flags: Set<String> = [
        "--json", "-q", "--quiet", "-v", "--verbose", "-y", "--yes", "-n", "--dry-run",
    ]
    private static let options: Set<String> = ["--output", "--progress", "--config"]

    /// Moves global options from in front of the verb to the end, where the verb's parser takes them.
    static func globalsLast(_ arguments: [String]) -> [String] {
        var moved: [String] = []
        var rest = arguments[...]
        while let word = rest.first {
            if flags.contains(word) || options.contains(where: { word.hasPrefix($0 + "=") }) {
                moved.append(word)
                rest = rest.dropFirst()
            } else if options.contains(word), rest.count > 1 {
                moved += rest.prefix(2)
                rest = rest.dropFirst(2)
            } else {
                break
            }
        }
        guard !moved.isEmpty, !rest.isEmpty else { return arguments }
        let end = rest.firstIndex(of: "--") ?? rest.endIndex
        return Array(rest[..<end]) + moved + Array(rest[end...])
    }

    private static func asksForJSON(_ words: [String]) -> Bool {
        if words.contains("--json") || words.contains("--output=json") { return true }
        if let index = words.firstIndex(of: "--output"), index + 1 < words.count { return words[index + 1] == "json" }
        let environment = Settings.environment()
        return environment["REPLICA_TOOL_OUTPUT"] == "json"
            || ["1", "true", "yes", "on"].contains(environment["REPLICA_TOOL_JSON"] ?? "")
    }
}
