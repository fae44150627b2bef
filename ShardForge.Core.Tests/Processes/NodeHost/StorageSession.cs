using System.Globalization;
using ShardForge.Storage;
using ShardForge.Tests.Storage.Lsm;

namespace ShardForge.Tests.Processes;

/// <summary>An engine in a process of its own that writes until it is killed: <c>storage {directory} {style}</c>.</summary>
/// <remarks>Says <c>try {number} .</c> before, <c>ack {number} .</c> after every few writes; the last acknowledged one, and all before, survive the process.</remarks>
internal static class StorageSession
{
    private const int WritesPerLine = 10;

    public static async Task RunAsync(string[] arguments)
    {
        LsmOptions options = StorageLoad.Options(Enum.Parse<LsmCompactionStyle>(arguments[2]));
        await using IStorageEngine engine = await StorageEngines.Lsm(options).OpenAsync(arguments[1]);
        for (long number = StorageLoad.ReadCounter(engine) + 1; ; number++)
        {
            if (number % WritesPerLine == 0)
                await SayAsync("try", number + WritesPerLine);
            await engine.WriteAsync(StorageLoad.Write(number), number % 64 == 0 ? StorageDurability.Flushed : StorageDurability.Buffered);
            if (number % WritesPerLine == 0)
                await SayAsync("ack", number);
        }
    }

    private static async Task SayAsync(string word, long number)
    {
        await Console.Out.WriteLineAsync(string.Create(CultureInfo.InvariantCulture, $"{word} {number} ."));
        await Console.Out.FlushAsync();
    }
}
