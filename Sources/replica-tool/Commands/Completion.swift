import ArgumentParser
import Glibc
import HostIO
import Primitives

struct Completion: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print a completion script for a shell.",
        discussion: "For bash: replica-tool completion bash > /etc/bash_completion.d/replica-tool")

    @Argument(help: ArgumentHelp("bash, zsh or fish.", valueName: "shell")) var shell: String
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let known: [String: CompletionShell] = ["bash": .bash, "zsh": .zsh, "fish": .fish]
        guard let shell = known[shell] else {
            throw ToolError(.usage, "no completion for '\(printable(shell))': write bash, zsh or fish")
        }
        Output.line(ReplicaTool.completionScript(for: shell))
        return .done
    }
}

struct Man: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write the manual pages, one for each verb.",
        discussion: "They are made from the same descriptions as 'replica-tool help VERB'.")

    // `--output` means the output format everywhere else, but a directory is what man pages go to.
    @Option(help: ArgumentHelp("The directory for the pages; it is made if it is missing.", valueName: "dir"))
    var output: String

    var globals: Globals { Globals.parsed([]) }

    func execute(_ context: Context) throws(ToolError) -> Exit {
        if mkdir(output, 0o755) != 0, errno != EEXIST {
            throw ToolError(.failed, "cannot make \(printable(output)): \(errorText(errno))")
        }
        let pages = try ManPage.all()
        for page in pages {
            let path = output + "/" + page.name + ".1"
            let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
            guard descriptor >= 0 else {
                throw ToolError(.failed, "cannot write \(printable(path)): \(errorText(errno))")
            }
            fchmod(descriptor, 0o644)
            let file = RawFile(path: path, descriptor: descriptor, size: 0)
            let bytes = ByteBuffer(count: page.text.utf8.count)
            bytes.bytes.copyBytes(from: Array(page.text.utf8))
            try file.write(bytes.readable, at: 0)
        }
        context.done(
            "wrote \(pages.count) manual pages to \(output)",
            ["directory": .string(output), "pages": JSON(pages.count)])
        return .done
    }
}
