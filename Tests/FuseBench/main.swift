serve(CommandLine.arguments)
