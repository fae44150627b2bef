using System.Globalization;
using System.Text;

namespace ShardForge.Tests.Processes;

/// <summary>Obeys the lines of a parent and answers on standard output, a line each, ended by a dot so that a torn one shows.</summary>
/// <remarks><code>
/// (open)                      -> ready .
/// write {writers} {first}     -> try {writer} {number} .  before, and  ack {writer} {number} .  after each acknowledged put, until stopped
/// stop                        -> stopped .
/// dump                        -> has {key} {number} .     for each key, read by scan and by get;  then  end {keys} .
/// exit                        the process ends, the node closed
/// </code>
/// Writer w of node n puts the numbers first, first + 1, ... in turn under the keys <c>n/w/{number modulo 32}</c>, with a value that
/// <see cref="NumberedValue"/> makes of key and number. So a key's number only rises, and a parent that has seen an ack knows the least it may hold.</remarks>
internal sealed class NodeSession(ShardForgeCluster node, TextWriter output) : IAsyncDisposable
{
    private const int KeysPerWriter = 32;
    private readonly Lock _outputGate = new();
    private readonly List<Task> _writers = [];
    private CancellationTokenSource _stop = new();

    public async Task RunAsync(TextReader input)
    {
        Say("ready");
        while (await input.ReadLineAsync() is { } line)
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            switch (words.Length == 0 ? "" : words[0])
            {
                case "write":
                    StartWriters(int.Parse(words[1], CultureInfo.InvariantCulture), long.Parse(words[2], CultureInfo.InvariantCulture));
                    break;
                case "stop":
                    await StopWritersAsync();
                    Say("stopped");
                    break;
                case "dump":
                    await DumpAsync();
                    break;
                case "exit":
                    return;
                default:
                    throw new ArgumentException($"'{line}' is not a command.");
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        await StopWritersAsync();
        _stop.Dispose();
    }

    private void StartWriters(int writerCount, long first)
    {
        _stop.Dispose();
        _stop = new CancellationTokenSource();
        for (int writer = 0; writer < writerCount; writer++)
            _writers.Add(WriteAsync(writer, first, _stop.Token));
    }

    private async Task StopWritersAsync()
    {
        await _stop.CancelAsync();
        await Task.WhenAll(_writers);
        _writers.Clear();
    }

    private async Task WriteAsync(int writer, long first, CancellationToken stop)
    {
        await Task.Yield();
        for (long number = first; !stop.IsCancellationRequested; number++)
        {
            string key = $"{node.NodeId}/{writer}/{number % KeysPerWriter}";
            byte[] keyBytes = Encoding.UTF8.GetBytes(key), value = NumberedValue.Encode(key, number);
            Say($"try {writer} {number}");
            if (!await PutUntilAcknowledgedAsync(keyBytes, value, stop))
                return;
            Say($"ack {writer} {number}");
        }
    }

    /// <summary>Nobody else writes the key, so a repeat of an unknown outcome is safe.</summary>
    /// <returns>False: stopped before it was acknowledged; it may have happened.</returns>
    private async Task<bool> PutUntilAcknowledgedAsync(byte[] key, byte[] value, CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await node.PutAsync(key, value, cancellationToken: CancellationToken.None);
                return true;
            }
            catch (ShardForgeException error) when (error.IsTransient || error is OutcomeUnknownException)
            {
                Say($"failed {error.GetType().Name}");
            }
        }

        return false;
    }

    private async Task DumpAsync()
    {
        int count = 0;
        await foreach (KeyValuePair<byte[], byte[]> entry in node.ScanAsync(KeyRange.All))
        {
            string key = Encoding.UTF8.GetString(entry.Key);
            byte[]? value = await node.GetAsync(entry.Key);
            bool isWhole = value is not null && value.AsSpan().SequenceEqual(entry.Value);
            Say($"has {key} {(isWhole && NumberedValue.TryDecode(key, entry.Value, out long number) ? number : -1)}");
            count++;
        }

        Say($"end {count}");
    }

    private void Say(string words)
    {
        lock (_outputGate)
        {
            output.Write($"{words} .\n");
            output.Flush();
        }
    }
}
