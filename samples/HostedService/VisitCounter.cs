using System.Buffers.Binary;
using Microsoft.Extensions.Hosting;

namespace ShardForge.Samples.HostedService;

/// <summary>Counts how often the process was started, by compare-and-set: right also where several processes count at once.</summary>
internal sealed class VisitCounter(ShardForgeCluster db) : IHostedService
{
    private static readonly byte[] s_key = "visits"u8.ToArray();

    public async Task StartAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            byte[]? before = await db.GetAsync(s_key, cancellationToken: cancellationToken);
            byte[] after = new byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(after, (before is null ? 0 : BinaryPrimitives.ReadInt64LittleEndian(before)) + 1);
            if (!await db.CompareAndSetAsync(s_key, before, after, cancellationToken))
                continue;
            Console.WriteLine($"visit {BinaryPrimitives.ReadInt64LittleEndian(after)}");
            return;
        }
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
