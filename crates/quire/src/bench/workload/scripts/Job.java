import java.util.ArrayList;
import java.util.HashMap;

/**
 * Small objects, strings and arrays of a chosen size in MB on one heap, visited in shuffled orders and in part replaced;
 * prints a digest that depends on the size alone.
 */
public class Job {
    static final class Item {
        final long id;
        final double rank;
        final String name;
        final byte[] load;
        Item next;

        Item(long id, double rank, String name, byte[] load) {
            this.id = id;
            this.rank = rank;
            this.name = name;
            this.load = load;
        }
    }

    static long state = 20240;
    static long sum;

    static int below(int end) {
        state = state * 6364136223846793005L + 1442695040888963407L;
        return (int) ((state >>> 33) % end);
    }

    static void note(long value) {
        sum = sum * 31 + value;
    }

    static Item item(int id) {
        byte[] load = new byte[64 + below(256)];
        for (int at = 0; at < load.length / 2; at++) {
            load[at] = (byte) below(256);
        }
        return new Item(id, below(1000) / 7.0, "item-" + Integer.toHexString(below(1 << 30)), load);
    }

    static int[] shuffled(int count) {
        int[] order = new int[count];
        for (int i = 0; i < count; i++) {
            int j = below(i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        return order;
    }

    public static void main(String[] arguments) {
        int megabytes = Integer.parseInt(arguments[0]);
        int count = megabytes * 2500;
        ArrayList<Item> items = new ArrayList<>();
        HashMap<String, Item> names = new HashMap<>();
        for (int i = 0; i < count; i++) {
            Item item = item(i);
            items.add(item);
            if (i % 4 == 0) {
                names.put(item.name, item);
            }
        }
        for (int pass = 0; pass < 3; pass++) {
            Item last = null;
            for (int i : shuffled(count)) {
                Item item = items.get(i);
                note(item.id + item.load[below(item.load.length)] + (long) item.rank);
                item.next = last;
                last = item;
                if (i % 5 == pass) {
                    items.set(i, item(i));
                }
            }
            for (Item item = last; item != null; item = item.next) {
                note(item.name.length());
            }
        }
        for (int i = 0; i < count; i += 4) {
            Item named = names.get(items.get(i).name);
            note(named == null ? -1 : named.id);
        }
        System.out.println("java: " + megabytes + " MB, digest " + Long.toHexString(sum));
    }
}
