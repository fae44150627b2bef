using ShardForge;
using ShardForge.Tests.Processes;

// One node in a process of its own, driven over standard input, for tests that kill it. See NodeSession for the lines.
try
{
    if (args[0] == "storage")
    {
        await StorageSession.RunAsync(args);
        return 0;
    }

    NodeArguments arguments = NodeArguments.Parse(args);
    await using ShardForgeCluster node = await ShardForgeCluster.OpenAsync(arguments.ToConfig());
    await using NodeSession session = new(node, Console.Out);
    await session.RunAsync(Console.In);
    return 0;
}
catch (Exception error) when (error is not OperationCanceledException)
{
    await Console.Error.WriteLineAsync(error.ToString());
    return 1;
}
