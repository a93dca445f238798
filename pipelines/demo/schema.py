"""The databases of the demo: `treehole`, for anonymous notes, and `shop`."""

DATABASES = ("treehole", "shop")

STATEMENTS = (
    "CREATE DATABASE treehole CHARACTER SET utf8mb4",
    "CREATE DATABASE shop CHARACTER SET utf8mb4",
    """
    CREATE TABLE treehole.holes (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        content VARCHAR(500),
        likes INT UNSIGNED NOT NULL DEFAULT 0,
        created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    )""",
    """
    CREATE TABLE shop.customers (
        id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        email VARCHAR(120) NOT NULL UNIQUE,
        tier ENUM('basic', 'silver', 'gold') NOT NULL DEFAULT 'basic',
        wants SET('news', 'offers', 'surveys') NOT NULL DEFAULT '',
        credit DECIMAL(12, 2) NOT NULL DEFAULT 0,
        born DATE,
        settings JSON,
        created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
    )""",
    """
    CREATE TABLE shop.orders (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        customer_id INT UNSIGNED NOT NULL,
        state ENUM('new', 'paid', 'sent', 'done', 'cancelled') NOT NULL DEFAULT 'new',
        total DECIMAL(10, 2) NOT NULL DEFAULT 0,
        gift BIT(1) NOT NULL DEFAULT b'0',
        note TEXT,
        placed_at DATETIME(6) NOT NULL,
        deliver_at TIME
    )""",
    """
    CREATE TABLE shop.order_items (
        order_id BIGINT UNSIGNED NOT NULL,
        line SMALLINT UNSIGNED NOT NULL,
        sku CHAR(8) CHARACTER SET latin1 NOT NULL,
        quantity SMALLINT UNSIGNED NOT NULL,
        price DECIMAL(8, 2) NOT NULL,
        weight_kg FLOAT,
        PRIMARY KEY (order_id, line)
    )""",
)
